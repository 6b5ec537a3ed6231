"Many jobs: what an interrupt, the end of the parent and a cluster make of them."
import ast
import importlib
import os
import pickle
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, alive, dotted, modules, wait_for

from dark.recipe import get_profile

SLEEPERS = """
import os, time
from dark.core.compute import in_parallel
def sleep(folder, number):
    open(f"{folder}/{os.getpid()}", "w").close()
    time.sleep(300)
if __name__ == "__main__":
    in_parallel(sleep, [(%r, n) for n in range(4)], "sleepers", workers=2)
"""
SUMS = """
import numpy as np
from dark.core.compute import in_parallel
def total(seed):
    return np.random.default_rng(seed).normal(size=(300, 300)) @ np.ones(300)
if __name__ == "__main__":
    print(np.array(in_parallel(total, [(n,) for n in range(4)], "sums", workers=2)).tobytes().hex())
"""


def parallel_calls():
    "Module and first argument of every call of `in_parallel` in the library."
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "in_parallel":
                yield dotted(path), node.args[0].id


@pytest.mark.parametrize("module, name", sorted(set(parallel_calls())))
def test_a_job_can_travel_to_another_process(module, name):
    found = getattr(importlib.import_module(f"dark.{module}"), name, None)
    if found is None:  # a parameter, which callers fill
        assert (module, name) == ("distil.teachers", "train")
        return
    assert pickle.loads(pickle.dumps(found)) is found


def test_what_is_given_to_call_can_travel_too():
    from dark.analyse.trajectories import analyse, brain_maps, trace_run
    from dark.distil.teachers import seat_teacher, teacher_facts, train_teacher
    from dark.distil.voices import train_misled

    jobs = [(told, get_profile("smoke"), 0) for told in (analyse, brain_maps, trace_run, seat_teacher, teacher_facts,
                                                         train_teacher, train_misled)]
    assert [pickle.loads(pickle.dumps(job)) for job in jobs] == jobs


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="tried on Linux alone")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, end):
    script, marks = tmp_path / "sleepers.py", tmp_path / "marks"
    marks.mkdir()
    script.write_text(SLEEPERS % str(marks))
    process = subprocess.Popen([sys.executable, script], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(marks.iterdir())) == 2)
    workers = [int(file.name) for file in marks.iterdir()]
    process.send_signal(end)
    assert process.wait(60) != 0
    wait_for(lambda: not any(map(alive, workers)), 30)
    assert len(list(marks.iterdir())) == 2, "a job began after the end"


def sums(tmp_path, **variables):
    script = tmp_path / "sums.py"
    script.write_text(SUMS)
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True, timeout=200,
                          env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cluster_gives_the_same_bytes(tmp_path):
    distributed = pytest.importorskip("distributed", reason='dask is not installed: pip install -e ".[cluster]"')
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        there = sums(tmp_path, DARK_SCHEDULER=cluster.scheduler_address)
    assert there == sums(tmp_path) and len(there) > 1000
