"Timings of phones and packages that were wrong without a word."
import json
import shutil

import pytest
import torch

from dark.device.coreml import compress, export_image, export_text, read_facts, read_spec
from dark.device.interpreter import read_program
from dark.device.packages import phone_rows, read_measurement
from dark.models.clip import MEAN, STD, student
from dark.recipe import get_profile

SMOKE = get_profile("smoke")
TOLD = {"device": "Toy phone", "os": "Toy 1", "compute_unit": "neural engine", "architecture": "MobileCLIP2-S0",
        "precision": "float16", "batch": 1, "runs": 9, "median_ms": 2, "low_ms": 1.5, "high_ms": 3, "tool": "made up"}
REFUSED = {
    "unit": ({"compute_unit": "banana"}, "compute_unit is 'banana'"),
    "precision": ({"precision": "banana"}, "precision is 'banana'"),
    "architecture": ({"architecture": "banana"}, "architecture is 'banana'"),
    "seconds": ({"median_ms": .0016, "low_ms": None, "high_ms": None}, "are these seconds or microseconds"),
    "microseconds": ({"median_ms": 1600, "low_ms": None, "high_ms": None}, "are these seconds or microseconds"),
    "text": ({"median_ms": "2"}, "median_ms must be a positive number"),
    "nan": ({"median_ms": float("nan")}, "median_ms must be a positive number"),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("package") / "a.mlpackage"
    return export_image(student(SMOKE).visual, SMOKE.image_size, [MEAN], [STD], place, facts={"prompts": ["a scan"]})


@pytest.mark.parametrize("change, said", REFUSED.values(), ids=REFUSED)
def test_a_timing_that_cannot_be_is_refused(change, said, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(TOLD | change))
    with pytest.raises(ValueError, match=f"a.json: {said}|a.json: .*{said}"):
        read_measurement(tmp_path / "a.json")


def test_two_timings_of_one_thing_name_both_files(tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(TOLD))
    with pytest.raises(ValueError, match="a.json and b.json are of one device"):
        phone_rows(tmp_path)


def test_notes_of_a_mac_are_not_read(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(TOLD))
    (tmp_path / "._a.json").write_bytes(b"\0\5\26\7")
    assert len(phone_rows(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["no model", "half a model", "no manifest", "not there"])
def test_a_damaged_package_is_named(damage, package, tmp_path):
    copy = tmp_path / "b.mlpackage"
    if damage != "not there":
        shutil.copytree(package, copy)
    model = copy / "Data" / "com.apple.CoreML" / "model.mlmodel"
    if damage == "no model":
        model.unlink()
    if damage == "half a model":
        model.write_bytes(model.read_bytes()[:200])
    if damage == "no manifest":
        (copy / "Manifest.json").unlink()
    for read in (read_facts, read_program, lambda place: compress(place, "int8", tmp_path / "c.mlpackage")):
        with pytest.raises((ValueError, FileNotFoundError), match="b.mlpackage .*export it again"):
            read(copy)
    assert not (tmp_path / "c.mlpackage").exists()


def test_what_xcode_writes_is_no_fact(package, tmp_path):
    copy = tmp_path / "b.mlpackage"
    shutil.copytree(package, copy)
    spec = read_spec(copy)
    spec.description.metadata.userDefined["com.apple.coreml.model.preview.type"] = "imageClassifier"
    (copy / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(spec.SerializeToString())
    assert read_facts(copy)["prompts"] == ["a scan"] and "com" not in "".join(read_facts(copy))
    spec.description.metadata.userDefined["prompts"] = "a scan, edited by hand"
    (copy / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(spec.SerializeToString())
    with pytest.raises(ValueError, match="b.mlpackage has facts that are no JSON"):
        read_facts(copy)


@pytest.mark.parametrize("std", [[0.], [-1.], [float("nan")]])
def test_std_divides(std, tmp_path):
    with pytest.raises(ValueError, match="std above 0: it divides"):
        export_image(student(SMOKE).visual, SMOKE.image_size, [MEAN], std, tmp_path / "a.mlpackage")
    assert list(tmp_path.iterdir()) == []


def test_a_compression_that_does_nothing_is_refused(package, tmp_path):
    with pytest.raises(ValueError, match="nothing of a.mlpackage was compressed"):
        compress(package, "palette6", tmp_path / "b.mlpackage", threshold=10**9)
    assert list(tmp_path.iterdir()) == []


def test_an_export_leaves_the_model_as_it_was(tmp_path):
    model = student(SMOKE).train()
    model.visual[0].eval()  # frozen
    before = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    export_image(model.visual, SMOKE.image_size, [MEAN], [STD], tmp_path / "a.mlpackage")
    export_text(model, SMOKE.context, tmp_path / "b.mlpackage")
    assert [module.training for module in model.modules()] == before and False in before and True in before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
