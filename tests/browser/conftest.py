"A browser, and JupyterLab as `make lab` starts it, on a copy of the checkout."
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "tests" / "browser" / "shots"


@pytest.fixture(scope="session")
def browser():
    "Chromium: the one that playwright installs, or, where that is not there, one of the system."
    playwright = pytest.importorskip("playwright.sync_api", reason='pip install --editable ".[browser]"')
    with playwright.sync_playwright() as started:
        own = Path(started.chromium.executable_path).is_file()
        place = None if own else shutil.which("chromium") or shutil.which("google-chrome")
        assert own or place, "no browser: .venv/bin/playwright install --with-deps chromium"
        with started.chromium.launch(executable_path=place, args=["--no-sandbox"]) as launched:
            yield launched


@pytest.fixture
def page(browser, request):
    "A page of its own; how it looks in the end is kept in tests/browser/shots."
    with browser.new_context(viewport={"width": 1400, "height": 1000}) as context:
        opened = context.new_page()
        opened.set_default_timeout(60_000)
        yield opened
        SHOTS.mkdir(exist_ok=True)
        opened.screenshot(path=SHOTS / f"{request.node.name.replace('/', '-')}.png")


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    "Address of a JupyterLab whose notebooks may be run and saved: those of a copy."
    folder = tmp_path_factory.mktemp("lab") / "checkout"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
               "--LabApp.expose_app_in_browser=True", "--IdentityProvider.token=",
               f"--ServerApp.root_dir={folder}"]
    own = {**os.environ, "PYTHONPATH": str(folder), "JUPYTER_CONFIG_DIR": str(folder / ".jupyter"),
           "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces")}
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=own, stdout=log, stderr=log)
    address, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            try:
                urlopen(f"{address}/api", timeout=5).close()
                break
            except URLError:
                assert time.monotonic() < until and server.poll() is None, (folder / "lab.log").read_text()
                time.sleep(.5)
        yield f"{address}/lab/tree"
    finally:
        server.terminate()
        server.wait(30)
