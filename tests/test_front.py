"The front page: the answer first, made from the ledgers; then what to type, one table, and the rest folded or linked."
import re
from functools import cache
from io import BytesIO

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from dark.artefacts.idea import figure_idea
from dark.paper.answer import answer_text, front_answer
from dark.paper.page import page_ledgers

README = (ROOT / "README.md").read_text(encoding="utf-8")
OPEN = re.sub(r"<details>.*?</details>", "", README, flags=re.S)  # what is read without a click


@cache
def committed():
    return answer_text(page_ledgers("phantom")).splitlines()


def test_the_answer_is_that_of_the_ledgers():
    assert front_answer() in README, "run: make readme"


UNMOVED = {  # profile -> sentences that rest on other ledgers
    "sweeps": ("In the setting of the table", "On real frames", "another hospital", "Not run"),
    "hc18": ("pairs are few", "In the setting of the table", "pairs are many", "The map", "a large and a small student",
             "a teacher misled", "methods of others", "Not run")}


@pytest.mark.parametrize("profile, name, metric, said, told", [
    ("sweeps", "dark-b2-e-0.8 pairs=1536", "avg", "few", "better than"),
    ("sweeps", "dark-b2-e-0.8 pairs=12288", "avg", "many", "better than"),
    ("hc18", "dark-b2-e-0.8 tau=5", "hc18/minus_static", "real frames", "ahead of")])  # its p has not moved
def test_a_sentence_changes_with_its_ledger_alone(profile, name, metric, said, told):
    ledgers = page_ledgers("phantom")
    ledger = ledgers[profile]
    hit = (ledger["name"] == name) & (ledger["metric"] == metric)
    assert hit.any()
    moved = ledger.assign(**{end: ledger[end] + .5 * hit for end in ("value", "low", "high")})
    old, new = committed(), answer_text(ledgers | {profile: moved}).splitlines()
    changed = [at for at, (line, other) in enumerate(zip(new, old, strict=True)) if line != other]
    # The count, the sentence, the map, the hypotheses, and by Holm's adjustment perhaps another verdict.
    assert changed[0] == 0 and len(changed) <= 5 and any(said in new[at] for at in changed[1:])
    assert all(any(begin in line for line in old) for begin in UNMOVED[profile])
    assert not any(begin in new[at] for at in changed for begin in UNMOVED[profile])
    assert f"{told} plain imitation" in next(line for line in new if said in line)


def test_fewer_seeds_are_said():
    ledgers = page_ledgers("phantom")
    sweeps = ledgers["sweeps"]
    three = sweeps[sweeps["seed"].isna() | (sweeps["seed"] < 3)]
    assert "1,536 drawn pictures, 3 seeds)" in answer_text(ledgers | {"sweeps": three})
    two = sweeps[sweeps["seed"].isna() | (sweeps["seed"] < 2)]
    assert answer_text(ledgers | {"sweeps": two}).count("not run, or not with 3 seeds") == 2


def test_the_picture_is_what_the_code_draws():
    drawn = BytesIO()
    figure_idea().savefig(drawn, format="png", dpi=110)
    one, other = (np.asarray(Image.open(file).convert("RGB"), dtype=float)
                  for file in (drawn, ROOT / "figures" / "idea.png"))
    assert one.shape == other.shape and np.abs(one - other).mean() < 2, (
        "run: python -c 'from dark.artefacts.idea import save_idea; save_idea()'")
    assert np.abs(one - other[:, ::-1]).mean() > 2, "a mirrored picture is found"


def test_the_order_of_the_page():
    places = [README.index(text) for text in (
        "# dark", "figures/idea.png", "## Does it hold?", "claims page", "git clone", "make reproduce", "make test",
        "source .venv/bin/activate", "| Model |", "## Read on", "<details>", "dark_paper", "## Where things are",
        "@article")]
    assert places == sorted(places)


def test_the_answer_comes_early():
    "A screen of a desktop is about 800 pixels: 30 lines of 100 characters; the picture takes 15 of them."
    for text, screens in (("**Repulsion", 1), ("| Model |", 2.2)):
        before = README[: README.index(text)]
        assert sum(1 + len(line) // 100 for line in before.splitlines() if line) + 15 < 30 * screens


def test_what_is_open_has_one_table_of_scores_and_no_p():
    assert OPEN.count("| Model |") == 1 and OPEN.count("± ") > 20
    assert not re.search(r"\bp(-values?)?\b [<=0]|p \(Holm\)|\(Holm\)", OPEN)
    assert README.count("<details>") == README.count("</details>") == 4
