"The library is a book: a section uses only sections before it, and some walls stand between chapters."
import subprocess
import sys

import pytest
from conftest import ROOT, dotted, library_notebooks, load, modules
from rules import LIGHT, MAX_MODULE, cell_sources, defined_twice, import_problems, imports, section

FOLDER = ROOT / "nbs" / "lib"
SECTIONS = [section(path.relative_to(FOLDER).as_posix()) for path in library_notebooks()]


def test_every_module_has_its_notebook():
    assert sorted(map(dotted, modules())) == sorted(SECTIONS)
    for path, name in zip(library_notebooks(), SECTIONS):
        assert cell_sources(load(path), "code")[0].split()[-1] == name, path.name


def test_the_house_is_small():
    # 83, and core.command, paper.doctor (what all commands share, and one that stood in another's module), distil.gpu
    # (a machine of its own), core.work (what code says of itself, apart from files), paper.orders and paper.page (one
    # claims page for all profiles), paper.answer and artefacts.idea (the front page answers first), paper.provenance,
    # paper.front and paper.outputs (the report became a page of its own), analyse.explore
    # (pictures for a reader), paper.publish (what stage notebooks show), models.card, data.datasheet and distil.pack
    # (what travels with models and pictures), core.docstrings
    assert len(SECTIONS) <= 100 and len(set(SECTIONS)) == len(SECTIONS)


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_imports_go_to_an_earlier_section(path):
    assert import_problems(dotted(path), path.read_text(encoding="utf-8"), SECTIONS) == []


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_modules_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE


def test_packages_import_nothing_by_themselves():
    for path in (ROOT / "dark").rglob("__init__.py"):
        documented = "from .core.docstrings import put_documenter\n" if path.parent.name == "dark" else ""
        assert "import" not in path.read_text(encoding="utf-8").replace(documented, "", 1), path


def test_importing_the_package_loads_next_to_nothing():
    code = "import re, sys; from importlib import machinery; import inspect; before = set(sys.modules); import dark; " \
           "print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["dark", "dark.core", "dark.core.docstrings"]


def heavy(names):
    "Those of some modules that load torch: all in one process, and if that loads it, each in one of its own."
    code = "import importlib, sys; [importlib.import_module(f'dark.{m}') for m in sys.argv[1:]]; " \
           "sys.exit('torch' in sys.modules)"

    def loads(*chosen):
        return subprocess.run([sys.executable, "-c", code, *chosen], cwd=ROOT, check=False).returncode

    return [name for name in names if loads(name)] if loads(*names) else []


def test_what_shows_results_loads_without_torch():
    light = [name for name in SECTIONS if LIGHT.fullmatch(name)]
    assert {"recipe", "schedule", "artefacts.table1", "paper.stages", "paper.run"} < set(light)
    assert heavy(light) == [] and heavy(["loss"]) == ["loss"]


def test_a_public_name_is_defined_once():
    assert defined_twice({dotted(path): path.read_text(encoding="utf-8") for path in modules()}) == []
    assert defined_twice({"a": "def f(): pass\nX = 1", "b.c": "X = 2\n_y = 1", "d": "_y = 2"}) == ["X: a, b.c"]


TOY = ["recipe", "loss", "core.paths", "core.ledger", "data.hc18", "distil.loop", "analyse.geometry",
       "artefacts.table1", "artefacts.table2", "paper.run"]


@pytest.mark.parametrize("module, source, said", [
    ("core.paths", "from .ledger import Ledger", "core.paths imports core.ledger, which is no earlier"),
    ("core.paths", "from . import ledger", "core.paths imports core.ledger, which is no earlier"),
    ("loss", "from .distil.loop import fit", "loss imports distil.loop, which is no earlier"),
    ("loss", "def f():\n    from dark.distil import loop", "loss imports distil.loop, which is no earlier"),
    ("loss", "import dark.loss", "loss imports loss, which is no earlier"),
    ("core.paths", "from ..data.pictures import read", "which is no section"),
    ("analyse.geometry", "from ..distil.loop import fit", "distil.loop through a wall"),
    ("artefacts.table2", "from .table1 import rows", "another artefact, artefacts.table1"),
    ("paper.run", "from ..distil import loop", "distil.loop through a wall"),
])
def test_the_rule_finds(module, source, said):
    problems = import_problems(module, source, TOY)
    assert len(problems) == 1 and said in problems[0]


@pytest.mark.parametrize("module, source", [
    ("core.ledger", "import torch\nfrom .paths import root\nfrom . import paths\nfrom .. import recipe"),
    ("distil.loop", "from ..data.hc18 import read\nfrom ..loss import dark_loss\nfrom dark.core import paths"),
])
def test_the_rule_permits(module, source):
    assert import_problems(module, source, TOY) == []
    assert {name for name in imports(source, module) if name.startswith("dark.")} != set()


def test_folders_are_looked_into(tmp_path):
    "A toy of the house: what lies in a folder, at any depth, is found."
    for path in ("nbs/lib/0_method/01_a.ipynb", "nbs/lib/1_core/01_b.ipynb",
                 "nbs/lib/1_core/.ipynb_checkpoints/01_b.ipynb", "dark/__init__.py", "dark/a.py",
                 "dark/core/__init__.py", "dark/core/b.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    found = [section(p.relative_to(tmp_path / "nbs" / "lib").as_posix()) for p in library_notebooks(tmp_path)]
    assert found == [dotted(p, tmp_path) for p in modules(tmp_path)] == ["a", "core.b"]
