"""The real HC18, where it is: every frame read, facts as documented.

The files are taken from DARK_MIRROR, or from the folder `shared/mirror` beside the checkout.
"""
import os
from pathlib import Path

import pytest
from PIL import Image

from dark.data.fetal_planes import FetalPlanes, benchmarks, planes_labels_file, read_planes_labels, select_benchmark
from dark.data.hc18 import HC18
from dark.data.pictures import find_file

checkout = Path(__file__).resolve().parent.parent
mirror = Path(os.environ["DARK_MIRROR"]) if "DARK_MIRROR" in os.environ else checkout.parent / "shared" / "mirror"
needs_hc18 = pytest.mark.skipif(not (mirror / "hc18" / "training_set").is_dir(),
                                reason="HC18 is not here: set DARK_MIRROR to a folder with it")
needs_planes = pytest.mark.skipif(not (mirror / planes_labels_file).is_file(),
                                  reason="FETAL_PLANES_DB's labels are not here: set DARK_MIRROR to a folder with them")


@pytest.fixture(scope="module")
def heads():
    return HC18(mirror)


@needs_hc18
def test_facts(heads):
    assert (len(heads), heads.table["group"].nunique()) == (999, 806)
    assert [len(set(heads.spacing(size))) for size in (64, 224, 256)] == [217, 84, 77]
    assert heads.spacing(224)[0] == round(800 / 224 * heads.table["pixel_mm"][0], 2) == .25
    assert heads.table["pixel_mm"].min() == pytest.approx(.0494, abs=1e-4)
    assert heads.table["pixel_mm"].max() == pytest.approx(.3933, abs=1e-4)


@needs_hc18
def test_every_frame_is_read(heads):
    pictures = heads.pictures(64)
    assert pictures.shape == (999, 64, 64)
    assert (pictures.float().std((1, 2)) > 5).all(), "no frame is blank"
    assert (pictures.float().mean((1, 2)) > 5).all()


@needs_hc18
def test_frames_of_other_sizes(heads):
    sizes = {}
    for row, name in enumerate(heads.table["filename"]):
        with Image.open(heads.folder / name) as file:
            sizes.setdefault(file.size, []).append(row)
    others = [row for size, rows in sizes.items() if size != (800, 540) for row in rows]
    assert len(others) == 24
    for row, picture in zip(others, heads.pictures(800, others)):
        with Image.open(heads.folder / heads.table["filename"][row]) as file:
            top = round((1 - file.height / file.width) / 2 * 800)
        assert not picture[:top - 3].any() and not picture[800 - top + 3:].any(), "padded above and below"
        assert picture[top + 3:797 - top].any()


@needs_planes
@pytest.mark.parametrize("benchmark, train, patients", [
    ("five_planes", 4528, {"train": 853, "test": 894}), ("brain_subplanes", 1543, {"train": 524, "test": 536})])
def test_official_split(benchmark, train, patients):
    table = select_benchmark(read_planes_labels(find_file(mirror, planes_labels_file, "fetal-planes")), benchmark)
    assert len(table) == benchmarks[benchmark].images and (table["split"] == "train").sum() == train
    assert table.groupby("split")["patient"].nunique().to_dict() == patients
    assert (table.groupby("patient")["split"].nunique() == 1).all(), "no patient is in both halves"


@needs_planes
def test_images_that_are_not_here():
    with pytest.raises(FileNotFoundError, match="pictures are absent from .*run `dark_fetch fetal-planes`"):
        FetalPlanes(mirror)
