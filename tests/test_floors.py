"Imports go down: a module uses only modules of lower floors, and the light floors stay light."
import pytest
from conftest import ROOT, library_notebooks, load, modules
from rules import MAX_MODULE, cell_sources, floor_problems, floors

TABLE = floors(path.stem for path in library_notebooks())


def test_every_module_has_its_notebook():
    assert {path.stem for path in modules()} == set(TABLE)
    for path in library_notebooks():
        assert cell_sources(load(path), "code")[0].split()[-1] == path.stem[3:], path.name


def test_every_name_is_used_once():
    assert len(TABLE) == len(library_notebooks())


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.stem)
def test_imports_go_to_a_lower_floor(path):
    assert floor_problems(path.stem, path.read_text(encoding="utf-8"), TABLE) == []


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.stem)
def test_modules_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE


def test_nobody_imports_the_package_from_itself():
    assert "import" not in (ROOT / "dark" / "__init__.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("module, source, said", [
    ("paths", "from .repro import sha256", "floor 0) imports repro"),
    ("loss", "from dark.ledger import Ledger", "imports ledger (floor 4)"),
    ("loss", "def f():\n    from . import train", "imports train (floor 3)"),
    ("loss", "import dark.loss", "imports loss"),
    ("recipe", "import torch.nn as nn", "imports torch"),
    ("recipe", "def f():\n    from timm import create_model", "imports timm"),
])
def test_the_rule_finds(module, source, said):
    table = floors(["00_paths", "01_repro", "02_backend", "10_recipe", "20_loss", "32_train", "40_ledger"])
    problems = floor_problems(module, source, table)
    assert len(problems) == 1 and said in problems[0]


@pytest.mark.parametrize("module, source", [
    ("backend", "import torch"), ("loss", "import torch\nfrom .paths import root\nfrom . import recipe"),
])
def test_the_rule_permits(module, source):
    assert floor_problems(module, source, floors(["00_paths", "02_backend", "10_recipe", "20_loss"])) == []
