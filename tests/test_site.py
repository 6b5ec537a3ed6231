"The documentation site holds every notebook and every symbol, and works from the disk: its links lead somewhere."
import html
import importlib
import re
import subprocess
import sys
from posixpath import dirname, join, normpath

import pytest
from conftest import ROOT, library_notebooks, pipeline_notebooks
from rules import section

from dark.core.docstrings import comments_of
from dark.paper.stages import Stage, title

LOADED = re.compile(r'<(?:script|img|iframe|link rel="(?:stylesheet|icon|preconnect)")\b[^>]*?\s(?:src|href)="([^"]*)"')
LINK = re.compile(r'<(?:a|img|script|link)\b[^>]*?\s(?:href|src)="([^"]*)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def pages(site) -> dict:
    "Path in the site -> text, of what mkdocs has made; reports are pages of their own."
    found = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    return {name: text for name, text in found.items() if 'name="generator" content="mkdocs' in text
            and name != "404.html"}  # which stands for any address


def dead(made, there) -> list:
    "Relative links of pages to files or anchors that are not there; `there` tells whether a file is."
    anchors = {name: set(re.findall(r'\s(?:id|name)="([^"]+)"', text)) for name, text in made.items()}
    problems = []
    for name, text in made.items():
        for link in map(html.unescape, LINK.findall(text)):
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            path = normpath(join(dirname(name), target)) if target else name
            if not there(path):
                problems.append(f"{name}: {link}")
            elif anchor and path in anchors and anchor not in anchors[path]:
                problems.append(f"{name}: no anchor {link}")
    return problems


def test_links_lead_somewhere(site):
    found = dead(pages(site), lambda path: (site / path).is_file())
    assert not found, "\n".join(found)


def test_dead_links_are_found():
    made = {"a/b.html": '<a class="x" href="../c.html#d">', "c.html": '<h1 id="e"><img alt="" src="f.png">'}
    assert dead(made, lambda path: path in made) == ["a/b.html: no anchor ../c.html#d", "c.html: f.png"]
    assert dead(made | {"c.html": '<h1 id="d">'}, lambda path: path in made) == []


def test_nothing_is_loaded_from_the_network(site):
    loaded = {link for text in pages(site).values() for link in LOADED.findall(text)}
    assert loaded and not [link for link in loaded if re.match(r"(https?:)?//", link)]


def test_every_notebook_has_a_page_with_its_outputs(site):
    made = pages(site)
    for path in [*library_notebooks(), *pipeline_notebooks()]:
        assert path.relative_to(ROOT).with_suffix(".html").as_posix() in made
    loss = made["nbs/lib/0_method/03_loss.html"]
    assert "<math" in loss and "arithmatex" not in loss and "#| export" not in html.unescape(loss)
    assert list((site / "nbs/lib").rglob("*_files/*.png"))


def test_every_symbol_is_there_with_the_comment_of_every_parameter(site):
    everything = pages(site)["api.html"]
    for path in library_notebooks():
        module = importlib.import_module(f"dark.{section(path.relative_to(ROOT / 'nbs/lib').as_posix())}")
        text = (site / path.relative_to(ROOT).with_suffix(".html")).read_text(encoding="utf-8")
        shown = " ".join(html.unescape(re.sub("<[^>]*>", "", text)).split())
        for name in module.__all__:
            thing = getattr(module, name)
            assert f'id="api-{name}"' in text and f'#api-{name}"' in everything, name
            said = comments_of(thing).values() if callable(thing) else ()
            missing = [words for words in said if words.replace("`", "")[:40] not in shown.replace("`", "")]
            assert not missing, f"{name}: {missing}"


def test_a_table_has_the_title_of_its_notebook(site):
    for stem in ("60_table1_zero_shot", "67_table5_ablation"):
        [made] = site.glob(f"figures/*/{stem}.html")
        text = made.read_text(encoding="utf-8")
        [heading] = re.findall(r"<h1[^>]*>(.*?)<", text)
        assert heading == f"{title(Stage(stem))} ({made.parent.name})" and f"nbs/paper/{stem}.html" in text
