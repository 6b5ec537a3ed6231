"A hypothesis is older than the results that decide it; the history of the repository says so, where it is there."
import csv
import io
import re
import subprocess

import pandas as pd
import pytest
from conftest import ROOT

from dark.analyse.contrasts import contrast_rows
from dark.core.ledger import Ledger
from dark.recipe import get_profile
from dark.regimes import MAPPED

REGISTERED = pd.read_csv(ROOT / "data/reference/registered.csv", dtype=str)
DECIDE = ("id", "hypothesis", "stage", "name", "metric", "rule", "margin")
PROFILES = {"32_hc18": "hc18", "33_elsewhere": "hc18", "36_sweeps": "sweeps"}  # stage -> whose ledger


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def first_commit(text, file):
    "Seconds of the first commit after which a file has a text; None if it never had."
    found = git("log", "--format=%ct", "--reverse", f"-S{text}", "--", file).stdout.split()
    return int(found[0]) if found else None


def as_written(line):
    "What the file has had of a hypothesis since its first commit: all that decides a verdict."
    told = io.StringIO()
    csv.writer(told, lineterminator=",").writerow([line[name] for name in DECIDE])
    return told.getvalue()


def cases(name):
    "The models that a hypothesis compares; of the whole map, those that no other hypothesis had in sight."
    names = re.split(r" [-+] ", name)
    return [f"{recipe} misled=1.0" for recipe in MAPPED] if names[0].startswith("map ") else names


@pytest.mark.skipif(git("rev-parse", "--is-shallow-repository").stdout.strip() != "false", reason="needs the history")
@pytest.mark.parametrize("line", REGISTERED.to_dict("records"), ids=REGISTERED["id"])
def test_the_hypothesis_was_there_before_its_results(line):
    written = first_commit(as_written(line), "data/reference/registered.csv")
    assert written is not None or git("status", "--porcelain", "data/reference/registered.csv").stdout
    ledger = f"data/results/{PROFILES[line['stage']]}.jsonl"
    what = [f'"stage":"{line["stage"]}","name":"{name}",' for name in cases(line["name"])]
    if line["stage"] != "36_sweeps":  # whose rows of other metrics may be older
        what = [f'"name":"{line["name"]}","split":"test","metric":"{line["metric"]}"']
    decided = [first_commit(text, ledger) for text in what]
    assert written is None or all(at is None or written <= at for at in decided)


def test_every_stage_has_a_ledger():
    assert set(REGISTERED["stage"]) <= set(PROFILES) and REGISTERED["id"].is_unique


def test_the_seeds_that_were_registered_are_those_of_the_studies():
    rows = contrast_rows(Ledger("sweeps").read(), pd.read_csv(ROOT / "data/reference/registered.csv"))
    seeds = rows[rows["metric"].str.contains("/minus_")].set_index(["name", "metric"])["n"]
    told = REGISTERED[REGISTERED["stage"] == "36_sweeps"].set_index(["name", "metric"])["seeds"].astype(int)
    assert seeds.astype(int).to_dict() == told.to_dict()
    assert set(REGISTERED.loc[REGISTERED["stage"] != "36_sweeps", "seeds"]) == {str(len(get_profile("hc18").seeds))}
