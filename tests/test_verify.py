"What is committed follows from what is committed: tables and figures from the ledgers, rows from the predictions."
import json
import shutil

import pytest
from conftest import ROOT

from dark.core import paths
from dark.core.repro import sha256
from dark.paper.provenance import write_provenance
from dark.paper.verify import changed_files, dark_verify, verify


@pytest.mark.parametrize("profile", ["hc18", pytest.param("phantom", marks=pytest.mark.full)])
def test_committed_results(profile, capfd):
    assert dark_verify(["--profile", profile]) == 0, capfd.readouterr().out


def test_what_was_changed_is_named(tmp_path, monkeypatch):
    for part in ("nbs/paper", "data/reference", "data/results", "figures/hc18"):
        shutil.copytree(ROOT / part, tmp_path / part)
    for stem in ("64_elsewhere", "76_figure_elsewhere", "90_claims"):  # two that show are enough
        (tmp_path / f"nbs/paper/{stem}.ipynb").unlink()
    for name, place in (("root", ""), ("data", "data"), ("figures", "figures"), ("notebooks", "nbs/paper"),
                        ("reference", "data/reference")):
        monkeypatch.setattr(paths, name, tmp_path / place)
    ledger = tmp_path / "data" / "results" / "hc18.jsonl"
    rows = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    changed = next(r for r in rows if r["metric"] == "hc18/validity" and r["name"] == "no-kd" and "seed" not in r)
    changed["value"] += .001
    ledger.write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in rows), encoding="utf-8")
    found = "\n".join(verify("hc18"))
    assert "32_hc18: hc18/validity of no-kd is" in found
    assert "62_table3_hc18.csv differs, first in line" in found
    assert "75_figure_hc18.png shows something else" in found


def test_a_file_that_was_changed_by_hand_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "root", tmp_path)
    monkeypatch.setattr(paths, "figures", tmp_path / "figures")
    table = tmp_path / "figures" / "smoke" / "60_a.csv"
    table.parent.mkdir(parents=True)
    table.write_text("a")
    record = {"status": "done", "key": {"notebook": "n"}, "measured": "m",
              "outputs": {"figures/smoke/60_a.csv": sha256(table)}}
    write_provenance("smoke", {"60_a": record}, {"60_a": None})
    assert changed_files("smoke") == []
    table.write_text("b")
    assert changed_files("smoke") == ["figures/smoke/60_a.csv is not what stage 60_a made"]
