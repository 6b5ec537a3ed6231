"dark/ is what the library notebooks export; README.md is what the index shows, and the index keeps it."
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT

from dark.paper.front import readme_text
from dark.paper.outputs import rerun, shown


def export(folder):
    "Export the library of a copy of the checkout."
    subprocess.run([sys.executable, "-c", "import nbdev; nbdev.nbdev_export()"], cwd=folder,
                   check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(folder)})


def differences(one, other):
    "Names of modules that are not the same in two folders."
    names = {path.relative_to(folder).as_posix() for folder in (one, other) for path in folder.rglob("*.py")}
    same = [n for n in names if (one / n).is_file() and (other / n).is_file()
            and (one / n).read_bytes() == (other / n).read_bytes()]
    return sorted(names - set(same))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "nbs", folder / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(ROOT / "dark", folder / "dark", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "settings.ini", folder)
    export(folder)
    return folder / "dark"


def test_the_export_is_in_sync(exported):
    assert differences(exported, ROOT / "dark") == []


def test_the_comparison_finds(exported, tmp_path):
    other = shutil.copytree(exported, tmp_path / "dark")
    (other / "core" / "paths.py").write_text("by hand")
    (other / "data" / "extra.py").write_text("")
    assert differences(exported, other) == ["core/paths.py", "data/extra.py"]


def regenerated():
    "Have the committed results been replaced by those of this machine?"
    status = ["git", "status", "--porcelain", "--", "figures/phantom", "data/results"]
    return bool(subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip())


@pytest.mark.skipif(regenerated(), reason="the results here are of your own making; make readme puts them there")
def test_readme_is_in_sync_with_the_index():
    index = ROOT / "nbs" / "index.ipynb"
    made = rerun(index)
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme_text(made, "nbs"), "run: make readme"
    kept = nbformat.read(index, as_version=4)
    assert list(map(shown, kept.cells)) == list(map(shown, made.cells)), "run: make readme"
