"""The published teacher: fetching with checks, reading with suspicion, and the numbers themselves.

The real files are taken from DARK_MIRROR, or from the folder `shared/mirror` beside the checkout; tests that need them
are skipped where neither is there. The other tests make files of the same structure.
"""
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from dark.core import paths
from dark.data import download, fetalclip, sources
from dark.data.biometry import days, hc_mm, validity
from dark.evaluate import benchmarks

checkout = Path(__file__).resolve().parent.parent
mirror = Path(os.environ["DARK_MIRROR"]) if "DARK_MIRROR" in os.environ else checkout.parent / "shared" / "mirror"
needs_mirror = pytest.mark.skipif(not (mirror / fetalclip.scores_file).is_file(),
                                  reason="the published outputs are not here: set DARK_MIRROR to a folder with them")
item = sources.items["fetalclip-outputs"]


def write_scores(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scores/data.pkl", content)


def write_predictions(folder, benchmark, truth):
    path = folder / fetalclip.predictions_file.format(benchmark=benchmark)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"prediction": truth, "label": truth}))


@pytest.fixture
def outputs(tmp_path):
    "A folder like that of the published outputs, of a teacher that is always right."
    hc = np.linspace(110, 330, 999).round(2)
    day = days[np.abs(hc_mm(days, 50) - hc[:, None]).argmin(1)].clip(105, 265)
    scores = -np.abs(days - day[:, None]).astype("f4")
    write_scores(tmp_path / fetalclip.scores_file,
                 pickle.dumps([{"true_hc": float(hc[i]), "text_dot_prods": scores[i:i + 1]} for i in range(999)]))
    (tmp_path / "hc18").mkdir()
    labels = {"filename": [f"{i // 2:03d}_{'2' * (i % 2)}HC.png" for i in range(999)], "pixel size(mm)": .1,
              "head circumference (mm)": hc}
    pd.DataFrame(labels).to_csv(tmp_path / fetalclip.hc18_labels_file, index=False)

    planes = ["Fetal abdomen", "Fetal femur", "Fetal thorax", "Maternal cervix"] * 1309 + ["Maternal cervix"] * 2
    brains = ["Trans-thalamic", "Trans-cerebellum", "Trans-ventricular"] * 983
    table = pd.DataFrame({
        "Image_name": [f"image{i}" for i in range(12400)], "Patient_num": np.arange(12400) % 1792 + 1,
        "Plane": planes + ["Fetal brain"] * 2949 + ["Other"] * 4213,
        "Brain_plane": ["Not A Brain"] * 5238 + brains + ["Not A Brain"] * 4213, "Train ": 1})
    (tmp_path / "fetal_planes_db").mkdir()
    table.to_csv(tmp_path / fetalclip.planes_labels_file, sep=";", index=False)
    for name, benchmark in fetalclip.benchmarks.items():
        write_predictions(tmp_path, name, table[benchmark.column].map(benchmark.classes).dropna().tolist())
    return tmp_path


def test_made_up_outputs_are_read(outputs):
    hc18 = fetalclip.hc18_predictions(outputs)
    five, brain = (fetalclip.plane_predictions(outputs, b) for b in fetalclip.benchmarks)
    rows = {r["metric"]: r for r in benchmarks.published_rows(hc18, five, brain, n=50)}
    assert hc18["group"].nunique() == 500
    assert (len(five), len(brain)) == (8187, 2949)
    assert {m: r["value"] for m, r in rows.items()} == {
        "five_planes/f1": 1, "brain_subplanes/f1": 1, "hc18/validity": 1, "class_f1": 1, "avg": 1}


# What can be wrong with a file, each a sentence

@pytest.mark.parametrize("missing", [fetalclip.scores_file, fetalclip.hc18_labels_file])
def test_missing_file(outputs, missing):
    (outputs / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"{missing} is not in .*: run `dark_fetch fetalclip-outputs`"):
        fetalclip.hc18_predictions(outputs)


@pytest.mark.parametrize("file, sep, column", [(fetalclip.hc18_labels_file, ",", "filename"),
                                               (fetalclip.planes_labels_file, ";", "Train ")])
def test_missing_column(outputs, file, sep, column):
    pd.read_csv(outputs / file, sep=sep).drop(columns=column).to_csv(outputs / file, sep=sep, index=False)
    read = fetalclip.read_hc18_labels if sep == "," else fetalclip.read_planes_labels
    with pytest.raises(ValueError, match=f"has no column \\['{column}'\\]"):
        read(outputs / file)


@pytest.mark.parametrize("edit, message", [
    (lambda t: t.iloc[:-1], "998 rows instead of 999"),
    (lambda t: t.assign(filename=["000_HC.png"] * 999), "998 impossible rows, the first is: 000_HC.png"),
    (lambda t: t.assign(**{"pixel size(mm)": 40.}), "999 impossible rows"),
    (lambda t: t.assign(**{"head circumference (mm)": "large"}), "cannot be read as a table .*large"),
    (lambda t: t.assign(**{"head circumference (mm)": np.nan}), "999 impossible rows"),
])
def test_wrong_hc18_labels(outputs, edit, message):
    path = outputs / fetalclip.hc18_labels_file
    edit(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message):
        fetalclip.hc18_predictions(outputs)


def test_empty_labels(outputs):
    (outputs / fetalclip.planes_labels_file).write_text("")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        fetalclip.plane_predictions(outputs, "five_planes")


def test_unknown_plane_label(outputs):
    path = outputs / fetalclip.planes_labels_file
    path.write_text(path.read_text().replace("Fetal femur", "Fetal foot"))
    with pytest.raises(ValueError, match="1309 impossible rows, the first is: image1, 2, Fetal foot"):
        fetalclip.plane_predictions(outputs, "five_planes")


def test_scores_of_another_order(outputs):
    path = outputs / fetalclip.hc18_labels_file
    pd.read_csv(path).iloc[::-1].to_csv(path, index=False)
    with pytest.raises(ValueError, match="differ in 998 values"):
        fetalclip.hc18_predictions(outputs)


def edit_predictions(outputs, edit):
    path = outputs / fetalclip.predictions_file.format(benchmark="five_planes")
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))


@pytest.mark.parametrize("edit, message", [
    (lambda c: {k: v[:-1] for k, v in c.items()}, r"number \[8187, 8186, 8186\] instead of 8187 each"),
    (lambda c: {k: v[1:] + v[:1] for k, v in c.items()}, "true classes: fetch both again"),
    (lambda c: {**c, "prediction": ["foot"] + c["prediction"][1:]}, r"predicts \['foot'\], which is no prompt class"),
    (lambda c: {"prediction": c["prediction"]}, "must hold the lists prediction and label"),
    (lambda c: c["prediction"], "must hold the lists prediction and label"),
])
def test_wrong_predictions(outputs, edit, message):
    edit_predictions(outputs, edit)
    with pytest.raises(ValueError, match=message):
        fetalclip.plane_predictions(outputs, "five_planes")


def test_truncated_json(outputs):
    path = outputs / fetalclip.predictions_file.format(benchmark="brain_subplanes")
    path.write_text(path.read_text()[:1000])
    with pytest.raises(ValueError, match="is not complete JSON .*fetch it again"):
        fetalclip.plane_predictions(outputs, "brain_subplanes")


class Harmful:
    "A pickle that would create a file when it is opened."

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("make", [
    lambda path: pickle.dumps([Harmful(path)]),
    lambda path: b"cos\nsystem\n(S'touch " + str(path).encode() + b"'\ntR.",
    lambda path: b"cbuiltins\neval\n(S'open(" + repr(str(path)).encode().replace(b"'", b'"') + b",\"w\")'\ntR.",
])
def test_malicious_pickle_runs_nothing(outputs, make):
    trace = outputs / "trace"
    write_scores(outputs / fetalclip.scores_file, make(trace))
    with pytest.raises(ValueError, match="it asks for .*, which no array needs; nothing was run"):
        fetalclip.hc18_predictions(outputs)
    assert not trace.exists()
    # the same bytes do run in the plain unpickler, so the refusal above is what protects
    with zipfile.ZipFile(outputs / fetalclip.scores_file) as archive:
        pickle.loads(archive.read("scores/data.pkl"))
    assert trace.exists()


@pytest.mark.parametrize("keep", [0, 100, 100_000])
def test_truncated_scores(outputs, keep):
    path = outputs / fetalclip.scores_file
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="is not the file of published scores .*fetch it again"):
        fetalclip.hc18_predictions(outputs)


def test_truncated_pickle_in_a_whole_archive(outputs):
    content = pickle.dumps([{"true_hc": 1., "text_dot_prods": np.zeros((1, 175), "f4")}] * 999)
    for keep in (0, 10, 50, len(content) // 2, len(content) - 1):
        write_scores(outputs / fetalclip.scores_file, content[:keep])
        with pytest.raises(ValueError, match="is not the file of published scores"):
            fetalclip.hc18_predictions(outputs)


# The real files

@needs_mirror
def test_fetch_the_real_item(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "raw", tmp_path)
    monkeypatch.setenv("DARK_MIRROR", str(mirror))
    folder = download.fetch("fetalclip-outputs")
    assert download.locate("fetalclip-outputs") == folder == tmp_path / "fetalclip-outputs"
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {f.path for f in item.parts}


@needs_mirror
def test_checksums_are_those_of_the_mirror():
    sums = dict(reversed(line.split("  ./")) for line in (mirror / "SHA256SUMS").read_text().splitlines())
    assert all(sums[f.path] == f.sha256 for f in item.parts if f.sha256)


@needs_mirror
def test_hc18_validity():
    table = fetalclip.hc18_predictions(mirror)
    evaluated = table[table["evaluated"]]
    assert (len(table), table["group"].nunique()) == (999, 806)
    assert (int(evaluated["valid"].sum()), len(evaluated)) == (679, 814)
    hc, scores = fetalclip.read_scores(mirror / fetalclip.scores_file)
    assert validity(scores, hc, days) == 679 / 814
    assert set(table.loc[table["filename"].isin(["010_HC.png", "010_2HC.png"]), "group"]) == {"010"}


@needs_mirror
@pytest.mark.parametrize("benchmark, f1, images", [("five_planes", .9727, 8187), ("brain_subplanes", .6929, 2949)])
def test_planes(benchmark, f1, images):
    table = fetalclip.plane_predictions(mirror, benchmark)
    classes = list(fetalclip.benchmarks[benchmark].classes.values())
    ours = f1_score(table["truth"], table["predicted"], labels=classes, average="macro")
    assert len(table) == images and table["image"].is_unique and table["patient"].between(1, 1792).all()
    assert round(ours, 4) == f1
    # theirs was computed in single precision
    assert fetalclip.printed_f1(mirror, benchmark) == pytest.approx(ours, abs=1e-7)


@needs_mirror
def test_rows_of_the_published_teacher():
    hc18 = fetalclip.hc18_predictions(mirror)
    five, brain = (fetalclip.plane_predictions(mirror, b) for b in fetalclip.benchmarks)
    rows = {r["metric"]: r for r in benchmarks.published_rows(hc18, five, brain)}
    for benchmark in fetalclip.benchmarks:
        assert rows[f"{benchmark}/f1"]["value"] == pytest.approx(fetalclip.printed_f1(mirror, benchmark), abs=1e-7)
    value = {metric: row["value"] for metric, row in rows.items()}
    assert value["class_f1"] == pytest.approx((5 * value["five_planes/f1"] + 3 * value["brain_subplanes/f1"]) / 8)
    assert value["avg"] == pytest.approx((value["class_f1"] + 679 / 814) / 2)
    for row in rows.values():
        assert row["low"] < row["value"] < row["high"] and row["high"] - row["low"] < .06
    # an interval of independent images, by the normal approximation; groups of images can only widen it
    half = 1.96 * np.sqrt(679 / 814 * 135 / 814 / 814)
    assert rows["hc18/validity"]["high"] - rows["hc18/validity"]["low"] > 2 * half * .97
