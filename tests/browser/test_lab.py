"Whoever opens the notebooks in JupyterLab sees the pictures, can run them, and gets on by their links."
import json
import re
from urllib.parse import unquote

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.browser
FRONT, LOSS, TABLE = "nbs/index.ipynb", "nbs/lib/0_method/03_loss.ipynb", "nbs/paper/60_table1_zero_shot.ipynb"
READ = [path for path in (FRONT, "nbs/explore.ipynb", "nbs/tutorial.ipynb", LOSS, TABLE, "nbs/promises.ipynb")
        if (ROOT / path).is_file()]
# Pictures that are there and not drawn, as JupyterLab shows a link that leads nowhere.
BROKEN = "images => images.filter(image => image.complete && !image.naturalWidth).map(image => image.alt || image.src)"
SHOWN = ".jp-NotebookPanel:not(.lm-mod-hidden)"


def open_notebook(page, lab, path):
    page.goto(f"{lab}/{path}?reset")
    page.wait_for_selector(f"{SHOWN} .jp-Cell")
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")


def look_through(page):
    "Scroll to the end, so that every cell is drawn."
    cells = page.locator(f"{SHOWN} .jp-WindowedPanel-outer")
    for at in range(0, 200):
        ended = cells.evaluate("(e, at) => { e.scrollTop = at * e.clientHeight * .8; "
                               "return e.scrollTop + e.clientHeight >= e.scrollHeight - 2 }", at)
        page.wait_for_timeout(150)
        assert page.eval_on_selector_all(f"{SHOWN} img", BROKEN) == []
        if ended:
            return
    raise AssertionError("the notebook has no end")


@pytest.mark.parametrize("path", READ)
def test_what_is_opened_shows_its_pictures(page, lab, path):
    open_notebook(page, lab, path)
    look_through(page)
    assert page.locator(".jp-Dialog").count() == 0


@pytest.mark.parametrize("path", [FRONT, LOSS])
def test_all_cells_run(page, lab, path):
    open_notebook(page, lab, path)
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells")
    last = sum(cell["cell_type"] == "code" for cell in json.loads((ROOT / path).read_text("utf-8"))["cells"])
    page.wait_for_function(
        "count => { const model = window.jupyterapp?.shell.currentWidget?.content?.model; if (!model) return false; "
        "const ran = [...model.cells].filter(c => c.type === 'code' && (c.executionCount || "
        "!c.sharedModel.getSource().trim())); "
        "const failed = [...model.cells].some(c => c.type === 'code' && JSON.stringify(c.outputs.toJSON())"
        ".includes('\"output_type\":\"error\"')); return failed || ran.length >= count }", arg=last, timeout=240_000)
    errors = page.evaluate(
        "[...window.jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type === 'code')"
        ".flatMap(c => c.outputs.toJSON()).filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue)")
    assert errors == []
    look_through(page)


def test_the_report_opens_with_its_pictures(page, lab):
    page.goto(f"{lab}/figures/phantom/report.html?reset")
    frame = page.frame_locator(".jp-HTMLViewer iframe")
    frame.locator("h1").first.wait_for()
    assert frame.locator("img").count() > 0
    assert frame.locator("img").evaluate_all(BROKEN) == []


def links(path) -> list:
    "Relative links of the prose of a notebook, from the root of the checkout."
    cells = json.loads((ROOT / path).read_text("utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    places = {(ROOT / path).parent / unquote(link) for link in found if not re.match(r"[a-z]+:", link)}
    return sorted(place.resolve().relative_to(ROOT).as_posix() for place in places)


def test_links_of_the_front_page_open(page, lab):
    places = links(FRONT)
    assert "CONTRIBUTING.md" in places and LOSS in places
    for place in places:
        page.goto(f"{lab}/{place}?reset")
        page.wait_for_selector(".lm-DockPanel-widget.jp-MainAreaWidget, .jp-NotebookPanel, .jp-Document, .jp-Dialog")
        assert page.locator(".jp-Dialog").count() == 0, f"{place} does not open"


def test_a_link_leads_to_the_notebook(page, lab):
    open_notebook(page, lab, FRONT)
    page.locator(f"{SHOWN} a", has_text="how to contribute").first.click()
    page.wait_for_function("window.jupyterapp.shell.currentWidget?.context?.path === 'CONTRIBUTING.md'")
    assert page.locator(".jp-Dialog").count() == 0


@pytest.mark.parametrize("path", READ)
def test_no_link_leads_to_a_folder(path):
    "JupyterLab opens files; a folder is answered with File Load Error."
    assert [link for link in links(path) if not (ROOT / link).is_file()] == []
