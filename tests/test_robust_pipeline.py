"What is wrong with files and folders ends `dark_paper` and `dark_doctor` in one sentence, before anything runs."
import errno
import json
import os
import resource
import subprocess
import sys

import pytest
from conftest import load
from papermill.exceptions import PapermillExecutionError
from test_pipeline import fast, notebook, records, run, toys  # noqa: F401

from dark.core import paths
from dark.core.paths import hold
from dark.paper import run as pipeline
from dark.paper.doctor import dark_doctor

HEAD, MIDDLE, END = "<" * 7 + " HEAD", "=" * 7, ">" * 7 + " theirs"


def edit(root, change):
    path = root / "nbs/paper/10_first.ipynb"
    held = load(path)
    change(held)
    path.write_text(json.dumps(held))


def refused(capsys, code, *said):
    "The command says one sentence and ends."
    capsys.readouterr()
    assert run() == code
    err = capsys.readouterr().err
    assert all(part in err for part in said) and err.count("\n") == 1 and "Traceback" not in err, err


@pytest.mark.parametrize("cells", [[f"`{HEAD}`", "`=======`", f"`{END}`"], [f"x\n{HEAD}\n1\n{MIDDLE}\n2\n{END}"]])
def test_a_notebook_with_both_versions_is_not_run(toys, fast, capsys, cells):  # noqa: F811
    for number, source in enumerate(cells):
        edit(toys, lambda held: held["cells"].append({"cell_type": "markdown", "id": f"m{number}", "metadata": {},  # noqa: B023
                                                      "source": source}))  # noqa: B023
    refused(capsys, 2, "10_first.ipynb, cell 4 is of a merge that was not finished")
    assert fast == [] and dark_doctor([]) == 1 and "10_first.ipynb, cell 4" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["settings.ini", "data/results/smoke.jsonl", "data/reference/claims.csv",
                                  "data/results/smoke.predictions/maps.csv", "figures/smoke/run.json"])
def test_what_a_merge_left_is_found_first(toys, fast, capsys, name):  # noqa: F811
    (toys / name).parent.mkdir(parents=True, exist_ok=True)
    (toys / name).write_text(f"a\n{HEAD}\n1\n{MIDDLE}\n2\n{END}\n")
    refused(capsys, 1, f"{name}, line 2 is of a merge that was not finished")
    assert fast == []


def test_two_values_of_one_measurement(toys, fast, capsys):  # noqa: F811
    assert run() == 0
    ledger = toys / "data/results/smoke.jsonl"
    lines = ledger.read_text().splitlines()
    ledger.write_text("\n".join([*lines, lines[0].replace("0.25", "0.75")]) + "\n")
    refused(capsys, 1, "data/results/smoke.jsonl, lines 1 and 3 are two values of one measurement")


@pytest.mark.parametrize("spec, said", [(None, "10_first is of no kernel"), ({"name": "ir", "language": "R",
                                        "display_name": "R"}, "10_first is of the kernel")])
def test_a_notebook_of_no_or_another_kernel(toys, fast, capsys, spec, said):  # noqa: F811
    edit(toys, lambda held: held.update(metadata={} if spec is None else {"kernelspec": spec}))
    refused(capsys, 2, said, "choose a Python kernel in the editor")
    assert fast == []


@pytest.mark.parametrize("content", [b"", b"\x89PNG\xff", b"[1]", b'{"cells": {}}'])
def test_no_notebook(toys, fast, capsys, content):  # noqa: F811
    (toys / "nbs/paper/10_first.ipynb").write_bytes(content)
    refused(capsys, 2, "10_first.ipynb")
    assert fast == [] and dark_doctor([]) == 1


@pytest.mark.parametrize("number, said", [(errno.ENOSPC, "no room on the disk"), (errno.EFBIG, "ulimit -f"),
                                          (errno.EROFS, "may not be read or written"), (errno.EACCES, "permissions")])
def test_a_disk_that_gives_out(toys, fast, capsys, monkeypatch, number, said):  # noqa: F811
    "And the same command goes on afterwards."
    assert run("--only", "10") == 0
    before, replace = records(toys), os.replace

    def fail(source, target):
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr(os, "replace", fail)
    capsys.readouterr()
    assert run() == 1
    err = capsys.readouterr().err
    assert said in err and "data/runs/smoke/stages.json" in err and "Traceback" not in err
    assert records(toys) == before and not [p for p in (toys / "data").rglob(".*") if p.is_file()]
    monkeypatch.setattr(os, "replace", replace)
    fast.clear()
    assert run() == 0 and fast == ["30_second", "60_table"]


def test_a_disk_that_gives_out_within_a_stage(toys, capsys, monkeypatch):  # noqa: F811
    "It was the error of a cell alone."
    def execute(*_):
        raise PapermillExecutionError(1, 1, "", "OSError", str(OSError(errno.ENOSPC, "No space", "x.npy")), "")

    monkeypatch.setattr(pipeline, "run_notebook", execute)
    assert run() == 1
    err = capsys.readouterr().err
    assert "10_first failed in cell" in err and "no room on the disk" in err and "run the same command again" in err


def test_two_rows_of_one_printed_value(toys, fast, capsys):  # noqa: F811
    (toys / "data/reference").mkdir(parents=True, exist_ok=True)
    line = "table1,no-kd,avg,84.3,percent,paper table 1"
    (toys / "data/reference/paper_values.csv").write_text("\n".join(["item,row,column,value,unit,source", line, line]))
    refused(capsys, 1, "paper_values.csv has table1, no-kd, avg, paper table 1 in rows 2 and 3: keep one")
    assert fast == []


def test_a_git_that_refuses_is_named_before_anything_runs(toys, fast, capsys):  # noqa: F811
    "It was a traceback when all was done."
    (toys / ".git").mkdir()
    refused(capsys, 1, "git does not say at which commit this checkout is (fatal: ")
    assert fast == []


def test_a_file_where_a_folder_belongs(toys, fast, capsys):  # noqa: F811
    (toys / "data").write_text("")
    assert run() == 1
    assert "data is in the way" in (err := capsys.readouterr().err) and "Traceback" not in err and fast == []


def test_a_limit_on_file_sizes(toys, fast, capsys):  # noqa: F811
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        assert run() == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "raise `ulimit -f`" in capsys.readouterr().err
    assert run() == 0


@pytest.mark.parametrize("name", ["data/runs/smoke/stages.json", "data/results/smoke.jsonl", "figures/smoke/run.json"])
def test_links_in_a_circle(toys, fast, capsys, name):  # noqa: F811
    (toys / name).parent.mkdir(parents=True, exist_ok=True)
    (toys / name).symlink_to((toys / name).name)
    refused(capsys, 1, f"{name} is a folder, or a link that leads nowhere: remove it") if "run.json" not in name else \
        refused(capsys, 1, name)
    assert fast == []


@pytest.mark.parametrize("field, value", [("outputs", {"../../x": "1"}), ("outputs", []), ("seconds", "1"), ("key", 3),
                                          ("status", "ready")])
def test_a_record_with_other_types(toys, fast, capsys, field, value):  # noqa: F811
    assert run() == 0
    held = records(toys)
    held["10_first"][field] = value
    (toys / "data/runs/smoke/stages.json").write_text(json.dumps(held))
    refused(capsys, 1, "stages.json is damaged", f"10_first has no such {field}", "delete it")


def test_two_runs_of_a_profile(toys, fast, capsys):  # noqa: F811
    "A dead process holds nothing, and another profile is not concerned."
    code = ("import fcntl, sys, time\nlock = open(sys.argv[1], 'a+')\nfcntl.flock(lock, fcntl.LOCK_EX)\n"
            "lock.write('process 7 on here since 2026')\nlock.flush()\nprint('held', flush=True)\ntime.sleep(60)")
    file = paths.runs("smoke") / "running"
    file.parent.mkdir(parents=True)
    other = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        refused(capsys, 2, "profile smoke is being run by process 7 on here since 2026: wait")
        assert fast == [] and run("--list") == 0
        with hold(paths.runs("phantom") / "running", "profile phantom is being run"):
            pass
    finally:
        other.kill()
        other.wait()
    assert run() == 0 and pipeline.dark_paper(["--profile", "smoke"]) == 0


def test_no_checkout(tmp_path, monkeypatch, capsys):
    for name in ("root", "notebooks"):
        monkeypatch.setattr(paths, name, tmp_path)
    assert dark_doctor([]) == 2 and run() == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all("run this in a checkout of the compendium" in line for line in said)
