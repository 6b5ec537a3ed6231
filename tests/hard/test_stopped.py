"""Whatever stops a run, nothing that is half-written counts, and the next run ends with the same bytes.

Minutes each; run them with `make test-hard`. The seed of the moments is printed, so that a failure can be repeated.
"""
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAPER = [sys.executable, "-c", "import sys; from dark.paper.run import dark_paper; sys.exit(dark_paper())",
         "--profile", "smoke"]
TIMED = ("43_coreml.", "63_table4_coreml.", "claims.", "report.html", "run.json",
         "provenance.json")  # hold milliseconds
pytestmark = pytest.mark.hard


def new_root(folder):
    "Notebooks and reference values of the checkout; no result."
    for part in ("nbs/paper", "data/reference", "data/devices"):
        shutil.copytree(ROOT / part, folder / part)
    return folder


def start(command, root, limit=None):
    "In a process group of its own, which may write files or take memory up to a limit."
    bound = (lambda: resource.setrlimit(*limit)) if limit else None
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, preexec_fn=bound, text=True,
                            env=os.environ | {"DARK_ROOT": str(root), "OMP_NUM_THREADS": "2"},
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(command, root, limit=None):
    run = start(command, root, limit)
    out, err = run.communicate(timeout=900)
    return run.returncode, out, err


def results(root):
    "Everything that a run leaves and that does not hold times: name -> bytes."
    lines = (root / "data/results/smoke.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    kept = [line for line, row in zip(lines, rows) if row["unit"] != "ms" and not row["metric"].startswith("speedup/")]
    folders = (root / "figures/smoke", root / "data/results/smoke.predictions")
    files = [file for folder in folders for file in folder.iterdir() if not file.name.startswith(TIMED)]
    return {"ledger": "\n".join(kept)} | {file.name: file.read_bytes() for file in files}


def strays(root):
    "Files that an interrupted write left beside its target."
    return [file for folder in ("data/results", "figures") for file in (root / folder).rglob(".*") if file.is_file()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "A run that nothing stopped."
    root = new_root(tmp_path_factory.mktemp("whole"))
    code, _, err = finish(PAPER, root)
    assert code == 0, err
    return root


def family(pid):
    "Processes below one, itself first."
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children = {}
    for child, parent in (map(int, line.split()) for line in listed.splitlines()):
        children.setdefault(parent, []).append(child)
    found = [pid]
    for one in found:
        found += children[one] if one in children else []
    return found


def strike(run, whom):
    "Kill the parent, everything, or one process below it; and wait until nothing of the run is left."
    everything = family(run.pid)
    victims = {"parent": everything[:1], "group": everything, "worker": [everything[-1]]}[whom]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself in between
    run.communicate(timeout=300)
    deadline = time.monotonic() + 60
    while alive := [pid for pid in everything if Path(f"/proc/{pid}/cmdline").is_file()
                    and Path(f"/proc/{pid}/cmdline").read_bytes()]:
        assert time.monotonic() < deadline, f"killed {whom}, and {alive} went on working"
        time.sleep(.2)


def test_killed_at_random_moments(whole, tmp_path):
    root, seed = new_root(tmp_path), time.time_ns() % 10**6
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(20):
        run = start(PAPER, root)
        try:
            run.communicate(timeout=chance.uniform(2, 40))
        except subprocess.TimeoutExpired:
            strike(run, chance.choice(("parent", "group", "worker")))
    code, _, err = finish(PAPER, root)
    assert code == 0, err
    assert results(root) == results(whole)
    assert strays(root) == []


@pytest.mark.parametrize("share", [.001, .03, .3])
def test_no_room_for_a_file(whole, tmp_path, share):
    "A limit on the size of files stops a write where a full disk would: OSError within it."
    root = new_root(tmp_path)
    largest = max(file.stat().st_size for file in (whole / "data/runs").rglob("*") if file.is_file())
    size = int(largest * share)
    code, _, err = finish(PAPER, root, (resource.RLIMIT_FSIZE, (size, size)))
    assert code == 1 and "Traceback" not in err.rpartition("\n\n")[2], err[-2000:]
    code, _, err = finish(PAPER, root)
    assert code == 0, err
    assert results(root) == results(whole)
    assert strays(root) == []


def test_no_memory(whole, tmp_path):
    root = new_root(tmp_path)
    code, _, err = finish(PAPER, root, (resource.RLIMIT_AS, (2**31, 2**31)))
    assert code != 0
    code, _, err = finish(PAPER, root)
    assert code == 0, err
    assert results(root) == results(whole)


def test_the_clock_was_set_back(whole):
    "What is up to date stays so, though every file is of next year."
    later = time.time() + 365 * 24 * 3600
    for file in whole.rglob("*"):
        os.utime(file, (later, later))
    before = results(whole)
    code, out, err = finish(PAPER, whole)
    assert code == 0, err
    assert {line.split(maxsplit=2)[2].partition(":")[0] for line in out.splitlines()[1:]} <= {"unchanged", "not run"}
    assert results(whole) == before


FULL = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_fullrun as toys
class Slow(toys.Batches):
    def epoch(self, number):
        for batch in super().epoch(number):
            time.sleep(.02)
            yield batch
toys.PAPER = toys.replace(toys.PAPER, distil=toys.PAPER.distil._replace(epochs=40))
quick = toys.replace(toys.PAPER, distil=toys.PAPER.distil._replace(warmup=1, lr=.05))
student, teacher = toys.Student(), toys.Student().requires_grad_(False)
toys.train_epochs(student, teacher, Slow(), toys.get_recipe("dark-b2-e-0.8"), quick, Path({folder!r}), "key",
                  toys.Accelerator(cpu=True))
"""


def test_full_size_killed_at_random_moments(tmp_path):
    "The loop of `dark_distil`, with towers of a few numbers and forty epochs."
    def command(folder):
        return [sys.executable, "-c", FULL.format(tests=str(HERE.parent), folder=str(folder))]

    assert finish(command(tmp_path / "whole"), tmp_path)[0] == 0
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(20):
        run = start(command(tmp_path / "killed"), tmp_path)
        try:
            run.communicate(timeout=chance.uniform(3, 9))
        except subprocess.TimeoutExpired:
            strike(run, "group")
    code, _, err = finish(command(tmp_path / "killed"), tmp_path)
    assert code == 0, err
    for name in ("model.pt", "log.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
