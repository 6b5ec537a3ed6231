"The paper's student at full size: export, parity on real frames where they are, and one damage that must be found."
import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from dark.core import paths
from dark.core.ledger import check_row
from dark.data.phantom import Phantom
from dark.device.coreml import export_image
from dark.device.cost import STUDENT_MEAN, STUDENT_SIZE, STUDENT_STD
from dark.device.interpreter import histogram, read_program
from dark.device.packages import check_parity, compare_embeddings, full_rows, program_embeddings, real_frames
from dark.models.released import STUDENT

MIRROR = Path(os.environ["DARK_MIRROR"]) if "DARK_MIRROR" in os.environ else ROOT.parent / "shared" / "mirror"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    "Ledger rows of the full-size student, and the folder of its packages."
    real = real_frames(STUDENT_SIZE, MIRROR, 16)
    frames = Phantom(STUDENT_SIZE, split="frames").sample(16).images if real is None else real
    root = tmp_path_factory.mktemp("full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "runs", lambda name: root / name)
        rows = full_rows(frames)
    assert all(check_row({**row, "stage": "43_coreml"}) for row in rows)
    return {row["metric"]: row["value"] for row in rows}, root / "full-size", frames


@pytest.mark.slow
def test_full_size_student(exported):
    value, folder, _ = exported
    for form, least in (("float16", 0.999), ("float32", 0.99999), ("text", 0.999)):
        assert value[f"coreml/{form}/cosine"] > least
        assert value[f"coreml/{form}/export"] < 60_000
    kinds = histogram(read_program(folder / f"{STUDENT}-float16.mlpackage"))
    assert sum(kinds.values()) < 250 and kinds["conv"] > 50


@pytest.mark.slow
def test_damage_at_full_size_is_found(exported, tmp_path):
    _, folder, frames = exported
    package = folder / f"{STUDENT}-float16.mlpackage"
    pictures = frames[:1, None].expand(-1, 3, -1, -1)
    whole = program_embeddings(read_program(package), pictures)
    damaged = Path(shutil.copytree(package, tmp_path / "damaged.mlpackage"))
    weights = damaged / "Data/com.apple.CoreML/weights/weight.bin"
    content = bytearray(weights.read_bytes())
    start = len(content) // 2
    content[start : start + 2**18] = bytes([60]) * 2**18  # a hundredth of the file
    weights.write_bytes(content)
    found = compare_embeddings(whole, program_embeddings(read_program(damaged), pictures))
    with pytest.raises(ValueError, match="does not compute what the model computes"):
        check_parity(found, "float16", damaged.name)


def test_a_wrong_size_is_one_sentence(tmp_path):
    tower = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 4))
    with pytest.raises(ValueError, match="cannot be exported for an input of shape"):
        export_image(tower, 5, STUDENT_MEAN, STUDENT_STD, tmp_path / "x.mlpackage")
    assert not list(tmp_path.iterdir())
