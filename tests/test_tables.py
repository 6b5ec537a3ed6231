"Table 1, its figure and Figure 2: known measurements in, known statistics out; and the notebooks that make them run."
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import synthetic
from conftest import ROOT, load
from rules import cell_sources
from scipy import stats

from dark.artefacts.table1 import markdown_1, seed_scores, table_1
from dark.core.ledger import GAIN, NOISE
from dark.core.stats import holm
from dark.recipe import TABLE_1

REFERENCE = pd.read_csv(ROOT / "data" / "reference" / "paper_values.csv")
SHOWS = ("60_table1_zero_shot", "70_figure2_dynamics", "90_claims")


@pytest.fixture(scope="module")
def table():
    return table_1(synthetic.ledger(), REFERENCE, TABLE_1, range(5))


def ours(table, name):
    return table[(table["name"] == name) & (table["source"] == "this run")].iloc[0]


def seeds_of(i):
    return .7 + list(GAIN.values())[i] + np.array(NOISE) * (1 + i)


def test_mean_and_interval(table):
    values, row = seeds_of(5), ours(table, "dark-b2-e-0.8")
    low, high = stats.t.interval(.95, 4, values.mean(), stats.sem(values))
    assert row[["avg", "avg_sd", "avg_low", "avg_high"]].tolist() == pytest.approx(
        [values.mean(), values.std(ddof=1), low, high])


def test_pairs_are_seeds(table):
    expected = stats.ttest_rel(seeds_of(5), seeds_of(1))
    assert ours(table, "dark-b2-e-0.8")["vs_static_kd_p"] == pytest.approx(expected.pvalue)
    assert np.isnan(ours(table, "static-kd")["vs_static_kd_p"])


def test_the_control_is_paired_with_dark_only(table):
    expected = stats.ttest_rel(seeds_of(5), seeds_of(2))
    row = ours(table, "dark-b2-e-0.8")
    assert row["vs_zero_off_p"] == pytest.approx(expected.pvalue)
    assert row["vs_zero_off"] == pytest.approx(seeds_of(5).mean() - seeds_of(2).mean())
    assert row["vs_anneal"] == pytest.approx(seeds_of(5).mean() - seeds_of(3).mean())
    assert table["vs_zero_off"].notna().sum() == table["vs_anneal"].notna().sum() == 1


@pytest.mark.parametrize("column, factor", [("hc18_validity", 100), ("brain_f1", 1), ("five_planes_f1", 1),
                                            ("class_f1", 1)])
def test_every_score_has_its_difference(table, column, factor):
    row, difference = ours(table, "zero-off"), (seeds_of(2) - seeds_of(1)) * factor
    low, high = stats.t.interval(.95, 4, difference.mean(), stats.sem(difference))
    found = row[[f"{column}_vs_static_kd{end}" for end in ("", "_low", "_high", "_p")]].tolist()
    assert found == pytest.approx([difference.mean(), low, high, stats.ttest_rel(seeds_of(2), seeds_of(1)).pvalue])


def test_a_constant_answer_is_a_row_without_seeds(table):
    row = ours(table, "best constant answer")
    assert row["avg"] == synthetic.CONSTANT and pd.isna(row["seeds"]) and pd.isna(row["vs_teacher"])
    rows = synthetic.ledger()
    without = table_1(rows[rows.name != "constant"], REFERENCE, TABLE_1, range(5))
    assert "best constant answer" not in set(without["name"]) and "onstant answer" not in markdown_1(without)
    pd.testing.assert_frame_equal(without, table[table["name"] != "best constant answer"].reset_index(drop=True))


def test_the_text_says_what_is_fixed(table):
    text = " ".join(markdown_1(table).split())
    assert "a whole replicate: a teacher of its own" in text and "not the test images, which are fixed" in text


def test_order_of_the_ledger_does_not_matter(table):
    shuffled = synthetic.ledger().sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(table_1(shuffled, REFERENCE, TABLE_1, range(5)), table)


def test_teachers_are_paired_with_their_students(table):
    expected = stats.ttest_rel(seeds_of(0), synthetic.TEACHER + np.array(NOISE)[::-1])
    assert ours(table, "no-kd")["vs_teacher_t"] == pytest.approx(expected.statistic)


def test_holm_is_monotone_and_bounded():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.uniform(size=6) ** 2
        adjusted = holm(p)
        assert (adjusted >= p).all() and (adjusted <= 1).all() and (np.diff(adjusted[np.argsort(p)]) >= 0).all()
        assert adjusted.min() == pytest.approx(min(1, 6 * p.min()))


def test_selected_epoch(table):
    row = ours(table, "zero-off")
    assert row["selected_epochs"] == "2 2 2 2 2"
    assert row["selected"] == pytest.approx(.83)


def test_no_row_mixes_sources(table):
    printed = table[table["source"] == "paper"].set_index("name")
    lines = REFERENCE[(REFERENCE["item"] == "table1") & REFERENCE["source"].str.startswith("paper")]
    for name, row in printed.iterrows():
        shown = row[["hc18_validity", "brain_f1", "five_planes_f1", "class_f1", "avg"]].dropna()
        known = lines[lines["row"] == name].set_index("column")["value"]
        assert shown.to_dict() == {column: known[column] for column in shown.index}
    assert printed.filter(regex="_(sd|low|high|p)$").isna().all(axis=None)


@pytest.mark.parametrize("lost, said", [
    (lambda rows: (rows.name == "zero-off") & (rows.seed == 3), "zero-off seed 3"),
    (lambda rows: rows.name == "no-kd", "no-kd seed 0, no-kd seed 1"),
    (lambda rows: rows.name.isin(["teacher", "FetalCLIP"]), "no test avg of a teacher"),
])
def test_missing_runs_are_named(lost, said):
    rows = synthetic.ledger()
    rows = rows[~lost(rows).fillna(False)]
    with pytest.raises(ValueError, match=said) as error:
        table_1(rows, REFERENCE, TABLE_1, range(5))
    assert "dark_paper --profile" in str(error.value)


def test_the_published_teacher_stands_in():
    rows = synthetic.ledger()
    row = ours(table_1(rows[rows.name != "teacher"], REFERENCE, TABLE_1, range(5)), "no-kd")
    assert row["vs_teacher"] == pytest.approx(.7 - .8509997)


def test_text_has_no_gaps(table):
    text = markdown_1(table)
    assert "nan" not in text and "None" not in text
    assert all(len(line.split("|")) == len(text.splitlines()[0].split("|")) for line in text.splitlines()[:7])


def test_the_last_epoch_is_not_among_the_final_scores():
    rows = synthetic.ledger()
    assert len(seed_scores(rows, TABLE_1, range(5))) == 30
    with pytest.raises(ValueError, match="30_train"):
        seed_scores(rows[rows.stage == "30_train"], TABLE_1, range(5))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "The figures folder after the notebooks that show results ran on made-up measurements, elsewhere."
    root = tmp_path_factory.mktemp("made_up")
    for folder in ("data/reference", "nbs/paper"):
        shutil.copytree(ROOT / folder, root / folder)
    environment = {**os.environ, "DARK_ROOT": str(root), "PYTHONPATH": str(ROOT / "tests"), "MPLBACKEND": "Agg"}
    lines = ["import synthetic; synthetic.write('smoke', (0, 1))"]
    for stem in SHOWS:
        code = "\n".join(cell_sources(load(ROOT / "nbs" / "paper" / f"{stem}.ipynb"), "code"))
        code = code.replace('profile = "phantom"', 'profile = "smoke"')
        lines.append(f"exec({code!r}, {{}})")
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, env=environment, cwd=ROOT)
    return root / "figures" / "smoke"


def test_notebooks_make_their_artefacts(made):
    wanted = {f"{SHOWS[0]}.{kind}" for kind in ("csv", "md", "png", "pdf", "caption.md")}
    wanted |= {f"{SHOWS[1]}.{kind}" for kind in ("csv", "md", "png", "pdf", "caption.md")}
    wanted |= {"claims.csv", "claims.md", "claims.html"}
    assert {path.name for path in made.iterdir()} == wanted
    assert not (made.parent / "claims.md").exists(), "smoke never enters the page of the other profiles"


def test_csv_is_numbers(made):
    table = pd.read_csv(made / "60_table1_zero_shot.csv")
    numeric = table.select_dtypes("number")
    assert {"avg", "avg_low", "vs_static_kd_p_holm", "vs_zero_off", "vs_teacher", "seeds"} <= set(numeric)
    row = table[(table["name"] == "no-kd") & (table["source"] == "this run")].iloc[0]
    assert row["hc18_validity"] == pytest.approx(70.05)


def test_figures_carry_no_date(made):
    assert b"CreationDate" not in (made / "70_figure2_dynamics.pdf").read_bytes()
