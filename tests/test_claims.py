"The claims page: every claim and every printed number has a verdict, and the facts about the paper are on it."
import re

import pandas as pd
import pytest
import synthetic
from conftest import ROOT

from dark.claims import claims, markdown_claims, vit_gmacs
from dark.verdicts import not_run, verdicts

FOLDER = ROOT / "data" / "reference"
REFERENCE = pd.read_csv(FOLDER / "paper_values.csv")
DEFINITIONS = pd.read_csv(FOLDER / "claims.csv", keep_default_na=False)


def page(rows=None, profile="phantom"):
    return claims(synthetic.ledger() if rows is None else rows, REFERENCE, DEFINITIONS, profile)


def claim(name, **arguments):
    return page(**arguments).set_index("id").loc[name]


@pytest.mark.parametrize("profile", ["phantom", "smoke", "hc18", "paper"])
@pytest.mark.parametrize("rows", [synthetic.ledger(), synthetic.ledger([0]), synthetic.ledger()[:0]],
                         ids=["full", "one seed", "empty"])
def test_every_line_has_a_verdict(rows, profile):
    table = page(rows, profile)
    assert len(table) == len(DEFINITIONS) + len(REFERENCE)
    for verdict in table["verdict"]:
        assert verdict in verdicts or re.fullmatch(f"{not_run}.+", verdict), verdict
    assert "nan" not in markdown_claims(table, profile).lower()


def test_every_claim_of_the_abstract_is_there():
    assert {f"C{i}" for i in range(1, 9)} | {"T1", "T2"} <= set(DEFINITIONS["id"])
    assert DEFINITIONS["id"].is_unique


def test_phantom_never_reproduces_a_student():
    table = page()
    students = table[table["claim"].str.match("no-kd|static-kd|coupled|dark") & table["ours"].notna()]
    assert len(students) and set(students["verdict"]) == {"on phantom only"}


def test_teacher_as_published():
    table = page().set_index("claim")
    by_paper = table.loc[table.index.str.contains("FetalCLIP.*paper") & table["ours"].notna()]
    assert set(by_paper["verdict"]) == {"differs"} and len(by_paper) == 4
    assert by_paper.filter(like="hc18_validity", axis=0)["ours"].item() == pytest.approx(83.415, abs=.001)
    own = table.loc[table.index.str.contains("FetalCLIP published")]
    assert set(own["verdict"]) == {"reproduced"}


def test_three_benchmarks_are_two():
    row = claim("C3")
    assert (row["ours"], row["verdict"]) == (2, "differs")
    assert "five_planes_f1 0.947 against 0.9727" in row["reason"]
    derived = REFERENCE[REFERENCE["source"].str.startswith("derived")].iloc[0]
    assert derived["column"] == "five_planes_f1"
    assert derived["value"] == pytest.approx((8 * .886 - 3 * .784) / 5, abs=5e-4)


def test_gmacs_are_half():
    assert vit_gmacs()[0] / 38.9 == pytest.approx(2, abs=.005)
    assert claim("F2")["verdict"] == "differs"
    assert "77.8 GMAC (81.0" in claim("F2")["reason"]


def test_best_epoch_and_code():
    assert claim("F3")["ours"] == pytest.approx(.8 - .7)
    assert claim("F4")["verdict"] == "differs"


@pytest.mark.parametrize("profile, verdict", [
    ("phantom", "on phantom only"), ("smoke", "on phantom only"), ("paper", "reproduced"),
    ("hc18", "not run: needs profile paper")])
def test_order(profile, verdict):
    row = claim("C8", profile=profile)
    assert (row["direction"], row["verdict"]) == ("found", verdict)


def test_a_refuted_claim_says_so():
    rows = synthetic.ledger()
    swap = {"dark-b2-e-0.8": "static-kd", "static-kd": "dark-b2-e-0.8"}
    row = claim("C8", rows=rows.assign(name=rows["name"].replace(swap)), profile="paper")
    assert (row["direction"], row["verdict"]) == ("opposed", "differs")


def test_one_seed_decides_nothing():
    assert claim("C8", rows=synthetic.ledger([0]))["direction"] == "undecided"


def test_sources_are_marked():
    assert REFERENCE["source"].str.match(r"paper |derived from the paper: |FetalCLIP ").all()
    assert not REFERENCE.duplicated(["item", "row", "column", "source"]).any()
    assert REFERENCE["value"].notna().all() and (FOLDER / "README.md").is_file()


def test_definitions_can_be_judged():
    tested = DEFINITIONS["metric"] != ""
    assert (DEFINITIONS.loc[tested, ["better", "worse"]] != "").all(axis=None)
    assert (DEFINITIONS.loc[DEFINITIONS["needs"] != "", "metric"] == "").all()
