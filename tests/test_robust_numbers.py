"Numbers and pictures that must not be wrong without a word: hostile input, other units, the reader's own settings."
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, load, modules, pipeline_notebooks
from rules import cell_sources

from dark.analyse import agreement
from dark.artefacts.table3 import table_3
from dark.core import stats
from dark.core.compute import read_tensors, save_tensors
from dark.core.ledger import Ledger, read_csv
from dark.data.biometry import is_evaluated, is_valid
from dark.data.prompts import BRAIN
from dark.evaluate.benchmarks import intervals
from dark.evaluate.zero_shot import classify
from dark.models.clip import save_model

GROUPS = [0, 0, 1, 2]
GOOD = [1., 0, 1, 1]
LABELS = ["a", "b", "a", "b"]
# Name of a statistic -> how it is called with one vector of measurements.
ON_NUMBERS = {
    "bootstrap": lambda x: stats.bootstrap(stats.fraction_of_counts, stats.hits(x), GROUPS, n=20),
    "percentile_interval": stats.percentile_interval, "hits": stats.hits, "finite_vector": stats.finite_vector,
    "fraction_of_counts": lambda x: stats.fraction_of_counts(np.stack([x, np.ones(len(x))], -1)),
    "mean_sd_ci": stats.mean_sd_ci,
    "paired_t": lambda x: stats.paired_t(x, [.5, .1, .2, .3]), "paired_t, b": lambda x: stats.paired_t([1, 2, 3, 5], x),
    "mcnemar": lambda x: stats.mcnemar(x, [1, 1, 0, 0]), "mcnemar, b": lambda x: stats.mcnemar([1, 1, 0, 0], x),
    "majority": lambda x: stats.majority(np.stack([x, x], 1)),
    "difference_interval": lambda x: stats.difference_interval(x, np.zeros(4), GROUPS, n=20),
    "difference_interval, b": lambda x: stats.difference_interval(np.zeros(4), x, GROUPS, n=20),
    "sign_flip": lambda x: stats.sign_flip(x, np.zeros(4), GROUPS, n=20),
    "sign_flip, b": lambda x: stats.sign_flip(np.zeros(4), x, GROUPS, n=20),
    "compare": lambda x: stats.compare(pd.DataFrame({"a": x}), .5, "vs"),
    "compare, others": lambda x: stats.compare(pd.DataFrame({"a": [1., 2, 4, 3]}), x, "vs"),
    "is_evaluated": lambda x: is_evaluated(np.multiply(200, x)),
    "is_valid": lambda x: is_valid(np.full(len(x), 200.), np.multiply(150, x)),
}
ON_GROUPS = {
    "bootstrap": lambda g: stats.bootstrap(stats.fraction_of_counts, stats.hits(GOOD), g, n=20),
    "difference_interval": lambda g: stats.difference_interval(GOOD, np.zeros(4), g, n=20),
    "sign_flip": lambda g: stats.sign_flip(GOOD, np.zeros(4), g, n=20),
    "class_recalls": lambda g: agreement.class_recalls(LABELS, LABELS, "ab", g, n=20),
}
ON_LABELS = {
    "confusion": lambda x: stats.confusion(LABELS, x, "ab"),
    "confusion, truth": lambda x: stats.confusion(x, LABELS, "ab"),
    "macro_f1": lambda x: stats.macro_f1(LABELS, x, "ab"), "cohen_kappa": lambda x: agreement.cohen_kappa(LABELS, x),
    "error_overlap": lambda x: agreement.error_overlap(LABELS, LABELS, x),
    "related_errors": lambda x: agreement.related_errors(LABELS, x, [("a", "b")]),
    "shares": lambda x: agreement.shares(LABELS, x, "ab", "ab"),
    "class_recalls": lambda x: agreement.class_recalls(LABELS, x, "ab", GROUPS, n=20),
}


def refused(function, value):
    with pytest.raises(ValueError) as told:
        function(value)
    assert "\n" not in str(told.value) and len(str(told.value)) > 30, told.value


@pytest.mark.parametrize("name", ON_NUMBERS)
def test_what_is_no_number_is_refused(name):
    ON_NUMBERS[name](GOOD)
    for bad in (np.nan, np.inf, -np.inf):
        refused(ON_NUMBERS[name], [1., 0, bad, 1])


@pytest.mark.parametrize("name", sorted(ON_NUMBERS.keys() - {"is_evaluated", "is_valid", "fraction_of_counts"}))
def test_nothing_is_refused(name):
    refused(ON_NUMBERS[name], [])


@pytest.mark.parametrize("name", [name for name in ON_NUMBERS if name.startswith(
    ("paired_t", "mcnemar", "difference_interval", "sign_flip", "compare, others"))])
def test_other_lengths_are_refused(name):
    refused(ON_NUMBERS[name], GOOD[:3])
    if "compare" not in name:  # one value there is the teacher's
        refused(ON_NUMBERS[name], GOOD[:1])


@pytest.mark.parametrize("name", ON_GROUPS)
def test_an_image_without_a_group_is_refused(name):
    ON_GROUPS[name](GROUPS)
    for bad in ([0, 1, 2], [0, 1, 2, np.nan], ["a", "b", "c", None], ["a", "b", "c", np.nan], [0, 1, 2, np.inf], []):
        refused(ON_GROUPS[name], bad)


@pytest.mark.parametrize("name", ON_LABELS)
def test_a_missing_answer_is_refused(name):
    ON_LABELS[name](LABELS)
    for bad in (["a", "b", "a", None], ["a", "b", "a", np.nan], LABELS[:3], []):
        refused(ON_LABELS[name], bad)


def test_a_verdict_is_yes_or_no():
    refused(lambda x: stats.mcnemar(x, [1, 0]), [.7, 0])
    refused(stats.majority, [[1, 2]])
    refused(stats.holm, [.1, 1.2])
    refused(stats.holm, [-.1, .2])


def test_p_does_not_depend_on_the_unit():
    rng = np.random.default_rng(0)
    for thirds in (rng.integers(4, size=(2, 200)) / 3, rng.normal(size=(2, 200)), rng.integers(2, size=(2, 40)) * .1):
        groups = np.arange(thirds.shape[1]) // 2
        p = {stats.sign_flip(*(unit * thirds), groups, n=2000) for unit in (1e-15, 1e-9, 1e-3, .1, 1, 3, 1e4, 1e12)}
        assert len(p) == 1, p


def test_ties_but_for_rounding_count_as_ties():
    "Four groups of equal size: 2 of 16 signs reach the sum, whatever the sum's last bit says."
    tenth, none = np.array([.1, .1 + .2 - .2, .3 - .2, .4 - .3]), np.zeros(4)
    assert len(set(tenth)) > 1
    assert stats.sign_flip(tenth, none, range(4)) == stats.sign_flip(np.ones(4), none, range(4))


def test_a_rare_class_cannot_raise_the_interval():
    truth, said = ["femur"] + ["brain"] * 39, ["brain"] * 40
    low, high = stats.percentile_interval(
        stats.bootstrap(stats.f1_of_counts, stats.confusion(truth, said, ["brain", "femur"])))
    assert low < stats.macro_f1(truth, said, ["brain", "femur"]) < high <= .5


def test_both_benchmarks_keep_their_classes():
    five = pd.DataFrame({"truth": ["brain"] * 30 + ["femur"], "predicted": ["brain"] * 31})
    brain = pd.DataFrame({"truth": [BRAIN[0]] * 29 + [BRAIN[1]], "predicted": [BRAIN[0]] * 30})
    found = intervals(five, brain, pd.DataFrame({"valid": [True, False]}))
    assert found["five_planes/f1"][1] <= .5 and found["brain_subplanes/f1"][1] <= .5


def test_an_embedding_of_nan_has_no_class():
    images = torch.eye(3)
    for bad in (torch.nan, torch.inf):
        broken = images.clone()
        broken[2, 0] = bad
        with pytest.raises(ValueError, match="image 2 of 3 is NaN or infinite"):
            classify(broken, images, list("abc"))
        with pytest.raises(ValueError, match="class 2 of 3 is NaN or infinite"):
            classify(images, broken, list("abc"))


def test_equal_checkpoints_have_equal_bytes(tmp_path):
    "The same weights under two names, once more after they were read, and with texts that are equal, not the same."
    model, other = (torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)) for _ in range(2))
    save_model(model, tmp_path / "model.pt")
    other.load_state_dict(read_tensors(tmp_path / "model.pt"))
    save_model(other, tmp_path / "deeper" / "epoch-01.pt")
    assert (tmp_path / "model.pt").read_bytes() == (tmp_path / "deeper" / "epoch-01.pt").read_bytes()
    for name, texts in (("a", ["loss", "loss"]), ("b", ["loss", "".join(["lo", "ss"])])):
        save_tensors({"history": texts, "step": torch.tensor(3)}, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_tensors(tmp_path / "b") == {"history": ["loss", "loss"], "step": torch.tensor(3)}


def test_one_function_writes_checkpoints():
    assert [file.name for file in modules() if "torch.save(" in file.read_text(encoding="utf-8")] == ["compute.py"]


SETTINGS = """text.usetex: True
font.size: 30
font.family: monospace
axes.facecolor: red
lines.linewidth: 9
figure.figsize: 2, 2
savefig.dpi: 30
savefig.bbox: tight
pdf.compression: 0
"""
DRAW = """
import sys
from pathlib import Path
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
from dark.core import paths
from dark.core.style import save_figure, style
assert plt.rcParams["text.usetex"] == (sys.argv[2] == "reader"), "the settings were not read"
style()
fig, ax = plt.subplots()
ax.plot([1, 3, 2], label="a $x^2$")
ax.set(xlabel="day_of_week", title="50 %")
ax.legend()
paths.figures = Path(sys.argv[1])
save_figure(fig, sys.argv[2], "70_drawn", "caption")
"""


def test_figures_do_not_see_the_settings_of_the_reader(tmp_path):
    for who, settings in (("reader", SETTINGS), ("nobody", "")):
        (tmp_path / "matplotlibrc").write_text(settings)
        subprocess.run([sys.executable, "-c", DRAW, tmp_path, who], check=True, cwd=ROOT,
                       env=os.environ | {"MATPLOTLIBRC": str(tmp_path)})
    for name in ("70_drawn.png", "70_drawn.pdf"):
        assert (tmp_path / "reader" / name).read_bytes() == (tmp_path / "nobody" / name).read_bytes(), name


def test_every_stage_sets_the_style_before_it_draws():
    for path in pipeline_notebooks():
        code = "\n".join(cell_sources(load(path), "code"))
        drawn = [at.start() for at in re.finditer(r"\bfigure_\w+\(|\bsave_figure\(", code)]
        assert not drawn or -1 < code.find("\nstyle()") < drawn[0], path.name


def merge_worst(gap, groups, merges, most):
    "Groups merged, so many times and up to so many together, from the ends of their differences inwards: like to like."
    group = np.unique(groups, return_inverse=True)[1]
    off = np.bincount(group, gap - gap.mean())
    order, cluster = list(np.argsort(off)), np.arange(len(off))
    while merges:
        size = min(most, merges + 1)
        low, high = order[:size], order[-size:]
        gain_low, gain_high = (off[part].sum() ** 2 - (off[part] ** 2).sum() for part in (low, high))
        part, order = (low, order[size:]) if gain_low >= gain_high else (high, order[:-size])
        cluster[part], merges = part[0], merges - size + 1
    return cluster[group]


@pytest.mark.parametrize("most", [2, 3])
def test_551_women_widen_the_intervals_as_table_3_says(most):
    table = table_3(Ledger("hc18").read()).set_index("name")
    images = read_csv("hc18", "hc18", "32_hc18").query("evaluated")
    share = {name: np.stack([is_valid(images["hc_mm"], images[c]) for c in images if c.startswith(f"{name}|")]).mean(0)
             for name in table.index if f"{name}|0" in images}
    assert read_csv("hc18", "hc18", "32_hc18")["group"].nunique() == 806
    wider = []
    for name in ("soft-only tau=5", "coupled-b1-e-0.8 tau=5", "dark-b2-e-0.8 tau=5"):
        gap, line = share[name] - share["static-kd tau=5"], table.loc[name]
        clusters = merge_worst(gap, images["group"], 806 - 551, most)
        mean, low, high = (100 * x for x in stats.difference_interval(gap, np.zeros(len(gap)), clusters))
        assert mean == pytest.approx(line["minus_static"])
        bound = stats.widened(mean, line["minus_static_low"], line["minus_static_high"], most)
        wider.append((high - low) / (bound[1] - bound[0]))
    assert np.allclose(wider, 1, atol=.06), wider


def test_hc18_counts_examinations():
    "The number in a file name is an examination of a woman, who may have come more than once."
    told = [ROOT / "README.md", *(ROOT / "figures" / "hc18").glob("*.[mc][ds]*"), *(ROOT / "nbs").rglob("*hc18.ipynb"),
            *(ROOT / "nbs" / "lib").rglob("*table3.ipynb"), *(ROOT / "nbs" / "lib").rglob("*fetalclip.ipynb")]
    assert len(told) > 15
    assert not [file for file in told if re.search(r"\bfetus", file.read_text(encoding="utf-8"))]
    assert "551 women" in (ROOT / "figures" / "hc18" / "62_table3_hc18.md").read_text(encoding="utf-8")
