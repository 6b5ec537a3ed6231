"The rules of the house, and for each rule an example that it finds."
import json
import shutil
import subprocess

import nbformat
import pytest
import rules
from conftest import ROOT, dotted, library_notebooks, load, modules, pipeline_notebooks, project_files
from nbdev.clean import nbdev_clean

from dark.recipe import Profile, Towers, Training, recipes

READERS = [ROOT / "nbs" / f"{stem}.ipynb" for stem in ("index", "explore", "tutorial")]
NOTEBOOKS = [*READERS, *library_notebooks(), *pipeline_notebooks()]
FOLDER = ROOT / "nbs" / "lib"
LIMIT = 1_000_000  # bytes of one file in git
# Files that may be larger, from the root: 970,929 weights of 16 bits each (the commit that brought them says why), and
# the report with its pictures within, so that it can be read without the folder; and every score of the sweeps, a line
# each, since these lines are all that another machine goes on from.
LARGE = {*(f"data/teachers/phantom{told}/teacher-s{seed}.safetensors" for seed in range(5)
           for told in ("", "-misled-0.5", "-misled-1.0")), "figures/phantom/report.html", "data/results/sweeps.jsonl"}


def name(path):
    return path.relative_to(ROOT).as_posix()


def code(*sources, tags=None, outputs=(), language="python"):
    "A small notebook of code cells; the first one carries the tags."
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "# name\n> What it does."}]
    cells += [{"cell_type": "code", "metadata": {"tags": tags} if tags and i == 0 else {}, "source": source,
               "outputs": list(outputs)} for i, source in enumerate(sources)]
    return {"cells": cells, "metadata": {"kernelspec": {"language": language}}}


@pytest.mark.parametrize("path", library_notebooks(), ids=lambda p: p.relative_to(FOLDER).as_posix())
def test_library_notebook(path):
    assert rules.library_problems(rules.section(path.relative_to(FOLDER).as_posix()), load(path)) == []


GOOD = ("#| default_exp name", "#| export\nimport os", "#| export\ndef f(): return 1", "assert f() == 1")


@pytest.mark.parametrize("cells, said", [
    (("#| default_exp other", *GOOD[1:]), "default_exp name"),
    ((*GOOD, "#| export\nimport os\nx = os.sep"), "imports are not alone"),
    ((*GOOD, "#| export\ndef g(): pass\ndef h(): pass", "g(), h()"), "two symbols"),
    ((*GOOD, "#| export\nx = (\n" + "1,\n" * 40 + ")"), "an exported cell of 43 lines"),
    ((*GOOD, "#| export\ndef g(): pass"), "g is exported, and no test reaches it"),
    ((*GOOD, *(f"#| export\ndef _g{i}(): pass" for i in range(5))), "5 exports without a test"),
])
def test_library_rule_finds(cells, said):
    assert rules.library_problems("name", code(*GOOD)) == []
    problems = rules.library_problems("name", code(*cells))
    assert len(problems) == 1 and said in problems[0]


def test_library_rule_finds_a_missing_blockquote():
    notebook = code(*GOOD)
    notebook["cells"][0]["source"] = "# name"
    assert "blockquote" in rules.library_problems("name", notebook)[0]


@pytest.mark.parametrize("path", pipeline_notebooks(), ids=lambda p: p.stem)
def test_pipeline_notebook(path):
    assert rules.pipeline_problems(load(path)) == []


PARAMETERS = 'profile = "phantom"\nprofiles = ["phantom"]\nneeds = ["hc18"]'


@pytest.mark.parametrize("cells, said", [
    ((PARAMETERS, "def f(): pass"), "defines f"),
    ((PARAMETERS, "class A: pass"), "defines A"),
    ((PARAMETERS, "f = lambda x: x"), "defines f"),
    ((PARAMETERS, "table = read('data/results/phantom.csv')"), "contains a path"),
    ((PARAMETERS, "where = Path('x')"), "makes a path"),
    ((PARAMETERS, "import os\nos.sep"), "imports are not alone"),
    ((PARAMETERS.replace("profile =", "size ="),), "profile is no parameter"),
    ((PARAMETERS.replace("profiles", "size"),), "profiles is no parameter"),
    ((PARAMETERS.replace("needs", "size"),), "needs is no parameter"),
    ((PARAMETERS, "frames = fetch.locate('hc19')"), "locates hc19, which is not among its needs"),
    ((PARAMETERS + "\nn = len('x')",), "more than literals"),
])
def test_pipeline_rule_finds(cells, said):
    problems = rules.pipeline_problems(code(*cells, tags=["parameters"]))
    assert len(problems) == 1 and said in problems[0]


def test_pipeline_rule_permits():
    cells = (PARAMETERS + "\nseeds = [0, 1]", "import os", "frames = fetch.locate('hc18')",
             'rows = table["five_planes/f1"].map(lambda x: 1 / x)')
    assert rules.pipeline_problems(code(*cells, tags=["parameters"])) == []
    assert rules.pipeline_problems(code(*cells)) == ["0 cells are tagged parameters, not one"]


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_nothing_is_silently_defaulted(path):
    assert rules.default_problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("source, said", [
    ("x.get('a', 0)", "hides a missing key"), ("x.get('a', default=0)", "hides a missing key"),
    ("try:\n    f()\nexcept:\n    g()", "bare except"),
    ("try:\n    f()\nexcept ValueError:\n    pass", "swallowed"),
    ("try:\n    f()\nexcept ValueError:\n    ...", "swallowed"),
])
def test_default_rule_finds(source, said):
    problems = rules.default_problems(source)
    assert len(problems) == 1 and said in problems[0]
    assert rules.default_problems("try:\n    x.get('a')\nexcept ValueError:\n    raise") == []


def test_no_traces_of_a_machine():
    texts = [path for path in project_files() if path.suffix in rules.TEXT]
    problems = {name(path): rules.text_problems(path.read_text(encoding="utf-8")) for path in texts}
    assert {key: found for key, found in problems.items() if found} == {}


@pytest.mark.parametrize("text", ["a = '/" + "home/me/x'", "see /" + "tmp/x", "(/" + "root/.cache)",
                                  "https://py" + "pi.org/simple", "--index" + "-url x"])
def test_trace_rule_finds(text):
    assert len(rules.text_problems(text)) == 1
    assert rules.text_problems("nbs/old/home/x and https://example.org/home/x and ~/tmp/x") == []


def test_files_are_small():
    sizes = {name(path): path.stat().st_size for path in project_files()}
    assert {file: size for file, size in sizes.items() if size > LIMIT and file not in LARGE} == {}


def test_ignore_patterns_are_anchored():
    assert rules.ignore_problems((ROOT / ".gitignore").read_text(encoding="utf-8")) == []
    assert rules.ignore_problems("# data\n/data/raw/\ndata/\n*.pyc\n") == ["data/", "*.pyc"]


def test_no_source_is_ignored():
    sources = [name(p) for p in [*NOTEBOOKS, *modules()]]
    done = subprocess.run(["git", "check-ignore", "--no-index", *sources], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "" and done.returncode == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_saved_outputs(path):
    assert rules.output_problems(load(path)) == []


def test_output_rule_finds():
    error = {"output_type": "error", "ename": "ValueError"}
    assert rules.output_problems(code("f()", outputs=[error])) == ["a saved error: ValueError"]
    assert rules.output_problems(code("f()", language="R")) == ["the kernelspec does not say language python"]


def cleaned(path, folder):
    "The bytes that nbdev_clean makes of a notebook."
    copy = shutil.copy(path, folder)
    nbdev_clean(fname=str(copy))
    return copy.read_bytes()


def test_notebooks_are_clean(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert [name(path) for path in NOTEBOOKS if cleaned(path, tmp_path / path.name) != path.read_bytes()] == []


def written(notebook) -> str:
    "A notebook as nbformat writes it."
    return nbformat.writes(nbformat.from_dict(notebook)) + "\n"


def test_notebooks_are_as_nbformat_writes_them():
    "Else the next one who keeps an output changes every line."
    assert [name(path) for path in NOTEBOOKS if written(load(path)) != path.read_text(encoding="utf-8")] == []
    told = code("1", outputs=[{"output_type": "stream", "name": "stdout", "text": "one\ntwo\n"}])
    told |= {"nbformat": 4, "nbformat_minor": 5}
    assert '"one\\n",' in written(told) and '"one\\n",' not in json.dumps(told)


def test_clean_rule_finds(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    dirty = tmp_path / "dirty.ipynb"
    dirty.write_text(library_notebooks()[0].read_text().replace('"execution_count": null', '"execution_count": 3', 1))
    assert cleaned(dirty, tmp_path / "copy.ipynb") != dirty.read_bytes()


def test_every_option_is_used():
    sources = [path.read_text(encoding="utf-8") for path in modules()]
    sources += ["\n".join(rules.cell_sources(load(path), "code")) for path in pipeline_notebooks()]
    assert rules.unused_fields([*Profile.__dataclass_fields__, *Towers._fields, *Training._fields], sources) == []
    assert rules.unused_fields(["a", "b"], ["x.a", "b = 1"]) == ["b"]


def test_every_option_of_a_recipe_makes_a_difference():
    ours = [recipe.settings for recipe in recipes.values() if recipe.objective == "two-weights"]
    for setting in ours[0]:
        assert len({settings[setting] for settings in ours}) > 1, setting
