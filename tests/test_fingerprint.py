"Keys follow definitions: where code lies and what it tells a reader make nothing stale; what it does, does."
import re
import shutil

import pytest
from conftest import ROOT, dotted, modules
from rules import refusal_problems

from dark.core.work import definitions

TOY = {
    "toy/__init__.py": "",
    "toy/data/__init__.py": "",
    "toy/data/units.py": "SCALE = 2.0\nUNUSED = 1\n",
    "toy/data/scale.py": "from .units import SCALE\ndef scale(x):\n    return x * SCALE\n"
                         "def neighbour(x):\n    return x\n",
    "toy/model.py": "class Model:\n    def __init__(self, size):\n        self.size = size\n",
    "toy/train.py": """from fastcore.basics import patch
from toy.data import scale as scaling
from .model import Model

class Run:
    pass

@patch
def step(self: Run, x):
    return scaling.scale(x) + 1

def fit(x):
    from .data.units import SCALE
    if x < 0:
        raise ValueError(f"{x} is negative")
    return Run().step(x), Model(SCALE)
""",
}
MOVES = [("toy/data/scale.py", "toy/core/far/sizes.py"), ("toy/train.py", "toy/loop.py")]


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "toy"


def digests(folder, files, start="toy.train.fit"):
    shutil.rmtree(folder / "toy", ignore_errors=True)
    return sorted(definitions([start], write(folder, files), registers=False).items())


def test_what_is_reached(tmp_path):
    assert [name for name, _ in digests(tmp_path, TOY)] == ["Model", "Run", "SCALE", "fit", "scale"]


@pytest.mark.parametrize("file, old, new", [
    ("toy/train.py", "is negative", "is below zero: give it a sign"),
    ("toy/train.py", "    if x", "    'Fit.'  # why\n\n    if x"),
    ("toy/train.py", "def fit(x)", "def fit(x: float) -> tuple"),
    ("toy/train.py", "from fastcore", "'A module.'\n__all__ = ['fit']\nimport os\nfrom fastcore"),
    ("toy/data/scale.py", "    return x\n", "    return -x\n"),
    ("toy/data/units.py", "UNUSED = 1", "UNUSED = 2"),
    ("toy/train.py", "    if x", "    refuse_words(x)\n    if x"),
])
def test_what_changes_no_result(tmp_path, file, old, new):
    assert old in TOY[file]
    assert digests(tmp_path, TOY | {file: TOY[file].replace(old, new)}) == digests(tmp_path, TOY)


@pytest.mark.parametrize("file, old, new, changed", [
    ("toy/data/units.py", "SCALE = 2.0", "SCALE = 3.0", {"SCALE", "fit", "scale"}),
    ("toy/data/scale.py", "x * SCALE", "x / SCALE", {"Run", "scale"}),
    ("toy/train.py", "scale(x) + 1", "scale(x) + 2", {"Run", "fit"}),
    ("toy/train.py", "x < 0", "x <= 0", {"fit"}),
    ("toy/model.py", "self.size = size", "self.size = 2 * size", {"Model", "fit"}),
    ("toy/train.py", "raise ValueError", "raise KeyError", {"fit"}),
    ("toy/train.py", "    if x", "    x = refuse_words(x)\n    if x", {"fit"}),
])
def test_what_changes_results(tmp_path, file, old, new, changed):
    assert old in TOY[file]
    before, after = digests(tmp_path, TOY), digests(tmp_path, TOY | {file: TOY[file].replace(old, new)})
    assert {name for name, _ in set(before) ^ set(after)} == changed


def test_swapped_imports_count(tmp_path):
    files = {"toy/__init__.py": "", "toy/a.py": "def f(): return 1\ndef g(): return 2\n",
             "toy/b.py": "from .a import f as x, g as y\ndef h(): return x() - y()\n"}
    swapped = files | {"toy/b.py": files["toy/b.py"].replace("f as x, g as y", "g as x, f as y")}
    assert digests(tmp_path, files, "toy.b.h") != digests(tmp_path, swapped, "toy.b.h")


def test_a_moved_module(tmp_path):
    old, new = "from toy.data import scale as scaling", "from .core.far import sizes as scaling"
    loop = TOY["toy/train.py"].replace(old, new)
    moved = {
        **TOY, "toy/core/__init__.py": "", "toy/core/far/__init__.py": "", "toy/loop.py": loop,
        "toy/core/far/sizes.py": TOY["toy/data/scale.py"].replace("from .units", "from ...data.units")}  # fmt: skip
    for old, _ in MOVES:
        del moved[old]
    assert digests(tmp_path, moved, "toy.loop.fit") == digests(tmp_path, TOY)


def test_the_trainers_may_move(tmp_path):
    starts = ["dark.distil.phantom.distil", "dark.distil.teachers.train_teacher", "dark.distil.hc18.train_job"]
    before = definitions(starts, ROOT / "dark", registers=False)
    package = shutil.copytree(ROOT / "dark", tmp_path / "dark")
    shutil.move(package / "schedule.py", package / "core" / "weights.py")
    shutil.move(package / "distil" / "loop.py", package / "models" / "steps.py")  # of the same depth
    for file in package.rglob("*.py"):
        text = re.sub(r"from \.+schedule import", "from dark.core.weights import", file.read_text())
        file.write_text(re.sub(r"from \.+(distil\.)?loop import", "from dark.models.steps import", text))
    assert definitions(starts, package, registers=False) == before
    steps = package / "models" / "steps.py"
    steps.write_text(steps.read_text().replace("lr=", "lr=2 * ", 1))
    assert definitions(starts, package, registers=False) != before


def test_what_trainers_depend_on():
    starts = ["dark.distil.phantom.distil", "dark.distil.teachers.train_teacher", "dark.core.compute.on_one_thread",
              "dark.objectives.weighted_pairs"]  # of the recipe: a registry is not followed
    found = definitions(starts, ROOT / "dark", registers=False)
    assert {"dark_loss", "warmup_cosine", "Phantom", "macro_f1", "set_threads", "Recipe", "fit"} <= found.keys()
    assert not {"recipes", "profiles", "releases", "Ledger", "table_1", "bootstrap"} & found.keys()
    assert "recipes" in definitions(["dark.recipe.get_recipe"], ROOT / "dark", registers=True)


def test_methods_are_patched_where_their_class_is():
    for file in (ROOT / "dark").rglob("*.py"):
        text = file.read_text()
        for name in re.findall(r"@patch\ndef \w+\(\s*self: (\w+)", text):
            assert f"class {name}" in text, file


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_what_refuses_returns_nothing(path):
    "Keys leave its calls out, so nothing may come of them but an error."
    assert refusal_problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("source, count", [
    ("def refuse_x(x):\n    if x < 0:\n        raise ValueError(x)\n    return", 0),
    ("def look(x):\n    return x", 0),
    ("def refuse_x(x):\n    return abs(x)", 1),
    ("def refuse_x(x):\n    yield x", 1),
    ("def refuse_x(x):\n    global y\n    x.y = 1", 2),
    ("def refuse_x(x):\n    x[0] = 1", 1),
    ("def refuse_x(x):\n    x[0] += 1\n    found = {}\n    found[0] = 1", 1),
])
def test_the_rule_of_refusals_finds(source, count):
    assert len(refusal_problems(source)) == count
