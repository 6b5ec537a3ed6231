"The teachers that come with the compendium: of this phantom, whole, and as good as their card says."
import json
from dataclasses import replace

import pytest
import torch

from dark.core import paths
from dark.core.compute import read_tensors
from dark.core.ledger import Ledger
from dark.distil.teachers import read_card, shipped_teachers
from dark.distil.voices import SHARES, misled_settings, teachers_home
from dark.evaluate.benchmarks import scores
from dark.evaluate.zero_shot import both_splits, drawn_benchmarks
from dark.models.clip import load_teacher
from dark.recipe import get_profile

PHANTOM = get_profile("phantom")


def shipped_misled(share):
    folder = paths.teachers(teachers_home("phantom", share))
    return read_card(folder, PHANTOM.seeds, misled_settings("phantom", share), "")


@pytest.mark.parametrize("find", [lambda: shipped_teachers(PHANTOM), *(lambda s=s: shipped_misled(s) for s in SHARES)],
                         ids=["phantom", *(f"misled {share}" for share in SHARES)])
def test_every_seed_has_one_of_this_phantom(find):
    files = find()  # compares checksums, settings, and the code that draws the pictures
    assert set(files) == set(PHANTOM.seeds)
    for file in files.values():
        state = read_tensors(file)
        assert file.stat().st_size < 2_000_000
        assert all(torch.isfinite(value.float()).all() for value in state.values())
        assert {value.dtype for name, value in state.items() if "num_batches" not in name} == {torch.float16}


def test_they_are_refused_for_other_pictures():
    with pytest.raises(ValueError, match="trained with other image_size, teach: train the profile's own with"):
        shipped_teachers(replace(PHANTOM, image_size=32, teach=PHANTOM.teach._replace(epochs=1)))


def test_students_do_not_shape_teachers():
    assert shipped_teachers(replace(PHANTOM, pairs=128, seeds=(0,), recipes=("rkd",))).keys() == {0}


def test_the_card_tells_their_scores():
    card = json.loads((paths.teachers("phantom") / "card.json").read_text())
    [told] = [line for line in card["teachers"] if line["seed"] == 0]
    found = both_splits(PHANTOM)(load_teacher(PHANTOM, shipped_teachers(PHANTOM)[0]))
    for name, value in found.items():
        assert value == pytest.approx(told[name], abs=0.01), name  # half precision, and this processor's rounding


@pytest.mark.parametrize("share", SHARES)
def test_a_misled_one_is_the_one_that_the_ledger_tells_of(share):
    seed = 4
    found = scores(drawn_benchmarks("phantom").predict(load_teacher(PHANTOM, shipped_misled(share)[seed])))
    told = {row["metric"]: row["value"] for row in Ledger("sweeps").rows()
            if row["name"] == f"teacher misled={share}" and row["seed"] == seed}
    assert len(found) > 3
    for name, value in found.items():
        assert value == pytest.approx(told[f"voice/{name}"], abs=0.01), name
