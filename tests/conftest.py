"What the tests share: the checkout, and one run of the whole pipeline on the smallest profile."
import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's children would ignore it
ONE_CORE = str(ROOT / "tests" / "one_core")  # on PYTHONPATH: a process that starts no others
LONGEST = ("test_pipeline", "test_pair", "test_readers", "test_released", "test_verify", "test_site", "test_coreml",
           "test_environment")  # files, longest first


def library_notebooks(root=ROOT):
    "In reading order, which is that of imports."
    return sorted(path for path in (root / "nbs" / "lib").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def pipeline_notebooks():
    return sorted((ROOT / "nbs" / "paper").glob("*.ipynb"))


def modules(root=ROOT):
    return sorted(path for path in (root / "dark").rglob("*.py") if not path.name.startswith("_"))


def dotted(path, root=ROOT):
    "Name of a module inside the package, such as data.phantom."
    return ".".join(path.relative_to(root / "dark").with_suffix("").parts)


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def project_files():
    "What is in git, or would be: tracked files and untracked ones that are not ignored."
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout
    return sorted(path for path in (ROOT / name for name in listed.split("\0") if name) if path.is_file())


def dark_paper(*arguments, root=ROOT, **options):
    "Run the command in a process of its own."
    command = [sys.executable, "-c", "import sys; from dark.paper.run import dark_paper; sys.exit(dark_paper())"]
    return subprocess.run([*command, *arguments], cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env={**os.environ, "DARK_ROOT": str(root)}, **options)


def alive(pid):
    "Whether a process still runs; a zombie does not."
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def wait_for(condition, seconds=90):
    "What the condition gives as soon as it is true."
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="session")
def smoke():
    "The whole sequence on the smallest profile, run for real; for test_pipeline.py alone, as files run side by side."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ONE_CORE)
        return dark_paper("--profile", "smoke", "--force", timeout=600)


def pytest_collection_modifyitems(items):
    "Long files first, so that no worker begins one when the others are done; needs --no-loadscope-reorder."
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_addoption(parser):
    parser.addoption("--promises", metavar="FILE", help="write what the tests try, and what they were told, as a table")


def plain(text):
    "A message on one line, without what differs from run to run."
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}[^\s:,'\"]*?(?=/[\w.-]+(?:[\s:,'\"]|$))", "...", str(text))
    return " ".join(text.replace(str(ROOT), ".").split())


@pytest.fixture(autouse=True)
def refusals(request, monkeypatch):
    "With --promises: every error that a test expects is kept with the test."
    if request.config.getoption("--promises") is None:
        yield
        return
    expected, known = [], pytest.raises

    def raises(*arguments, **options):
        expected.append(known(*arguments, **options))
        return expected[-1]

    monkeypatch.setattr(pytest, "raises", raises)
    yield
    said = [plain(context.excinfo.value) for context in expected if getattr(context, "excinfo", None)]
    request.config.stash.setdefault(PROMISES, []).append((request.node, said))


PROMISES = pytest.StashKey()


def pytest_sessionfinish(session):
    file, kept = session.config.getoption("--promises"), session.config.stash.get(PROMISES, [])
    if file is None:
        return
    with open(file, "w", encoding="utf-8", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(("test", "promise", "input", "says"))
        for node, said in kept:
            given = node.callspec.id if hasattr(node, "callspec") else ""
            promise = node.function.__doc__ or node.function.__name__.removeprefix("test_").replace("_", " ")
            table.writerow((node.nodeid.partition("[")[0], plain(promise), plain(given), said[0] if said else ""))
