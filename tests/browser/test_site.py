"The site is read and searched from the disk, without a server."
import subprocess
import sys

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_search_finds_a_symbol(page, site):
    failed = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.goto((site / "index.html").as_uri())
    page.click("label[for=__search]") if not page.is_visible(".md-search__input") else None
    page.fill(".md-search__input", "gather_embeddings")
    found = page.locator(".md-search-result__link").first
    found.wait_for()
    found.click()
    page.wait_for_selector("#api-gather_embeddings")
    assert page.url.startswith("file:") and "nbs/lib/0_method/03_loss.html" in page.url and failed == []


@pytest.mark.parametrize("name", ["index", "nbs/lib/0_method/03_loss", "nbs/paper/60_table1_zero_shot"])
def test_pictures_are_drawn(page, site, name):
    page.goto((site / f"{name}.html").as_uri())
    page.wait_for_load_state("load")
    drawn = page.eval_on_selector_all("article img", "images => images.map(image => image.naturalWidth)")
    assert drawn and min(drawn) > 0
