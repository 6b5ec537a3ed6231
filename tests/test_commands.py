"What a user meets who types a command: outside a checkout, without a terminal, quiet, verbose, with a browser."
import importlib
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from test_pipeline import MEASURE, NEEDS, fast, notebook, run, toys  # noqa: F401, two of them fixtures

from dark.core import paths
from dark.paper import run as pipeline

HOMES = dict(line.split("=") for line in
             (ROOT / "settings.ini").read_text(encoding="utf-8").split("console_scripts =")[1].split())
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
OUTSIDE = [["dark_paper"], ["dark_paper", "--list"], ["dark_paper", "--open"], ["dark_doctor"], ["dark_fetch", "hc18"],
           ["dark_verify"], ["dark_processors"]]


def start(name, *words, root):
    "A command in a process of its own, without a terminal."
    home, function = HOMES[name].split(":")
    code = f"import sys; from {home} import {function} as command; sys.exit(command())"
    return subprocess.run([sys.executable, "-c", code, *words], cwd=root, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, env={**os.environ, "DARK_ROOT": str(root)}, check=False)


@pytest.mark.parametrize("words", OUTSIDE, ids=" ".join)
def test_outside_a_checkout(words, tmp_path, monkeypatch, capsys):
    for name, place in (("root", ""), ("data", "data"), ("figures", "figures"), ("notebooks", "nbs/paper"),
                        ("raw", "data/raw"), ("reference", "data/reference")):
        monkeypatch.setattr(paths, name, tmp_path / place)
    home, function = HOMES[words[0]].split(":")
    assert getattr(importlib.import_module(home), function)(words[1:]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and "run this in a checkout of the compendium" in told.err
    assert list(tmp_path.iterdir()) == []


def test_the_paper_s_own_training_outside_a_checkout(tmp_path, monkeypatch, capsys):
    from dark.distil.full_size import dark_distil

    monkeypatch.setattr(paths, "notebooks", tmp_path)
    assert dark_distil(["--shards", str(tmp_path)]) == 2
    assert "run this in a checkout of the compendium" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_the_last_line_is_the_report(toys, fast, capsys, monkeypatch):  # noqa: F811
    assert run() == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {toys}/figures/smoke/report.html"
    monkeypatch.chdir(toys)
    assert run() == 0 and capsys.readouterr().out.splitlines()[-1] == "report: figures/smoke/report.html"


def test_quiet_says_what_could_not_run(toys, fast, capsys):  # noqa: F811
    assert run("--quiet", "--force") == 0
    told = capsys.readouterr()
    assert told.err == "" and told.out.count("\n") == 1 and told.out.startswith("report: ")


def test_quiet_keeps_problems(toys, capsys):  # noqa: F811
    for stem in ("10_first", "30_second", "60_table"):
        (toys / "nbs" / "paper" / f"{stem}.ipynb").unlink()
    notebook(toys, "50_data", NEEDS)
    assert run("--quiet") == 0
    told = capsys.readouterr()
    assert told.err == "50_data: not run: needs `dark_fetch toys`\n" and told.out.count("\n") == 1
    notebook(toys, "60_table", "1 / 0")
    assert run("--quiet") == 1
    told = capsys.readouterr()
    assert "ZeroDivisionError" in told.err and "%" not in told.err and told.out == ""


def test_open_shows_the_report(toys, fast, capsys, monkeypatch):  # noqa: F811
    shown = []
    monkeypatch.setattr(pipeline.webbrowser, "open", lambda place: shown.append(place) or len(shown) == 1)
    assert run("--open") == 0 and shown == [(toys / "figures/smoke/report.html").as_uri()]
    assert "browser" not in capsys.readouterr().err
    assert run("--open") == 0 and "no browser can be started here" in capsys.readouterr().err


def test_verbose_says_what_cells_print_and_nothing_has_control_codes(toys):  # noqa: F811
    notebook(toys, "10_first", MEASURE.format(stem="10_first", value=0.25) + "\nprint('a cell speaks')")
    plain = start("dark_paper", "--profile", "smoke", "--only", "10", root=toys)
    assert plain.returncode == 0 and "a cell speaks" not in plain.stderr and "10_first: never run" in plain.stderr
    loud = start("dark_paper", "--profile", "smoke", "--only", "10", "--force", "--verbose", root=toys)
    assert loud.returncode == 0 and "a cell speaks" in loud.stderr and "Executing notebook with kernel" in loud.stderr
    assert not CONTROL.search(plain.stdout + plain.stderr + loud.stdout + loud.stderr)


def test_what_excludes_each_other(capsys):
    for words in (["--quiet", "--verbose"], ["--list", "--open"]):
        with pytest.raises(SystemExit) as ended:
            pipeline.dark_paper(words)
        assert ended.value.code == 2 and "not allowed with" in capsys.readouterr().err
