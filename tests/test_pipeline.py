"The command `dark_paper`: on toy notebooks in a folder of their own, and for real on the smallest profile."
import json
import os
import re
import signal
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ONE_CORE, ROOT, alive, dark_paper, load, wait_for

from dark.core import paths
from dark.core.ledger import Ledger, final_scores
from dark.paper import run as pipeline
from dark.paper.doctor import needed_items
from dark.paper.processors import measure_setting, settings
from dark.paper.stages import all_stages
from dark.paper.verdicts import direction, family

IMPORTS = "from pathlib import Path\nfrom dark.core.ledger import Ledger, row\nfrom dark.core.repro import sha256"
MEASURE = "Ledger(profile).write('{stem}', [row('no-kd', 'avg', {value}, 'fraction')])"
SHOW = """folder = Path('figures', profile)
folder.mkdir(parents=True, exist_ok=True)
(folder / '{stem}.csv').write_text(Ledger(profile).read().to_csv())"""
NEEDS = "class NeedsData(Exception): ...\nraise NeedsData('needs `dark_fetch toys`')"
PARAMETERS = 'profile = "phantom"\nprofiles = ["phantom", "smoke"]\nneeds = []'


def notebook(root, stem, code, parameters=PARAMETERS):
    "Write a toy stage."
    cells = [{"cell_type": "markdown", "id": "c0", "metadata": {}, "source": f"# Toy {stem}"}]
    for number, source in enumerate([parameters, IMPORTS, code], start=1):
        cells.append({"cell_type": "code", "id": f"c{number}", "execution_count": None, "outputs": [],
                      "metadata": {"tags": ["parameters"]} if number == 1 else {}, "source": source})
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    path = root / "nbs" / "paper" / f"{stem}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


@pytest.fixture
def toys(tmp_path, monkeypatch):
    "A root with four toy stages; the kernels find it by DARK_ROOT, this process by its paths."
    root = tmp_path.resolve()
    notebook(root, "10_first", MEASURE.format(stem="10_first", value=0.25))
    notebook(root, "30_second", MEASURE.format(stem="30_second", value=0.5))
    notebook(root, "60_table", SHOW.format(stem="60_table"))
    monkeypatch.setenv("DARK_ROOT", str(root))
    places = {"root": root, "data": root / "data", "figures": root / "figures", "notebooks": root / "nbs" / "paper",
              "reference": root / "data" / "reference", "raw": root / "data" / "raw"}
    for name, place in places.items():
        monkeypatch.setattr(paths, name, place)
    return root


@pytest.fixture
def fast(monkeypatch):
    "Run the code of a toy in this process: for tests of the sequence, not of the kernel."
    ran = []

    def execute(path, profile, copy):
        ran.append(path.stem)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
        before = os.getcwd()
        os.chdir(paths.root)
        try:
            sources = [cell["source"] for cell in load(path)["cells"] if cell["cell_type"] == "code"]
            exec("\n".join([sources[0], f"profile = {profile!r}", *sources[1:]]), {})
        finally:
            os.chdir(before)

    monkeypatch.setattr(pipeline, "run_notebook", execute)
    return ran


def run(*arguments):
    return pipeline.dark_paper(["--profile", "smoke", *arguments])


def records(root):
    return json.loads((root / "data/runs/smoke/stages.json").read_text())


def test_real_kernels(toys, capfd):
    "Order, executed copies, results, times, report; then an unchanged sequence, and one that needs data."
    notebook(toys, "50_data", NEEDS)
    (toys / "figures/smoke").mkdir(parents=True)
    (toys / "figures/smoke/50_data.csv").write_text("came with the checkout")
    notebook(toys, "40_where", "import os, sys\nassert (sys.executable, os.getcwd()) == "
                               f"({sys.executable!r}, {str(toys)!r})\nassert profile == 'smoke'")
    assert run() == 0
    copies = sorted(path.stem for path in (toys / "data/runs/smoke/notebooks").iterdir())
    assert copies == ["10_first", "30_second", "40_where", "50_data", "60_table"]
    assert [line.split()[0] for line in capfd.readouterr().out.splitlines()] == ["stage", *copies, "report:"]
    lines = (toys / "data/results/smoke.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in lines] == ["10_first", "30_second"]
    assert (toys / "figures/smoke/50_data.csv").read_text() == "came with the checkout"
    told = json.loads((toys / "figures/smoke/run.json").read_text())
    assert told["seconds"]["50_data"] is None and told["seconds"]["10_first"] > 0
    assert told["total_seconds"] == pytest.approx(sum(s for s in told["seconds"].values() if s), abs=0.1)
    page = (toys / "figures/smoke/report.html").read_text()
    assert "Toy 60_table" in page and str(toys) not in page
    assert "Results of another machine; here not run: needs <code>dark_fetch toys</code>." in page
    assert run() == 0
    statuses = [line.split(maxsplit=2)[2] for line in capfd.readouterr().out.splitlines()[1:-1]]
    assert statuses == ["unchanged"] * 3 + ["not run: needs `dark_fetch toys`", "unchanged"]
    assert json.loads((toys / "figures/smoke/run.json").read_text()) == told


def test_a_stage_of_which_nothing_is_here_starts_no_kernel(toys, fast, capsys):
    notebook(toys, "50_data", SHOW.format(stem="50_data"), PARAMETERS.replace("[]", '["hc18", "fetal-planes"]'))
    assert run("--only", "50") == 0 and fast == []
    assert "not run: needs `dark_fetch fetal-planes hc18`" in capsys.readouterr().out
    assert records(toys)["50_data"]["status"] == "not run" and not (toys / "figures/smoke/50_data.csv").exists()


def test_without_data_the_results_of_the_checkout_stay(toys):
    "Its rows, too, and what shows them; however often it is tried."
    notebook(toys, "50_data", MEASURE.format(stem="50_data", value=0.1) + "\n" + SHOW.format(stem="50_data"))
    assert run("--only", "50") == 0
    (toys / "data/runs/smoke/stages.json").unlink()
    notebook(toys, "50_data", NEEDS)
    before = (toys / "data/results/smoke.jsonl").read_text()
    for _ in range(2):
        assert run("--only", "50") == 0
        assert records(toys)["50_data"]["status"] == "not run" and before.count("50_data") == 1
        assert (toys / "data/results/smoke.jsonl").read_text() == before
        assert (toys / "figures/smoke/50_data.csv").exists()


def test_nothing_measured_nothing_shown(toys, capsys):
    for stem in ("10_first", "30_second"):
        notebook(toys, stem, NEEDS)
    assert run() == 0
    said = capsys.readouterr().out
    assert said.count("not run: needs `dark_fetch toys`") == 2
    assert "not run: needs a measurement of profile smoke: none of its stages could run" in said


def test_a_stage_that_needs_data_loses_its_earlier_results(toys):
    notebook(toys, "50_data", MEASURE.format(stem="50_data", value=0.1) + "\n" + SHOW.format(stem="50_data"))
    assert run("--only", "50") == 0
    assert records(toys)["50_data"]["outputs"].keys() == {"figures/smoke/50_data.csv"}
    notebook(toys, "50_data", NEEDS)
    assert run("--only", "50") == 0
    assert records(toys)["50_data"]["status"] == "not run"
    assert not (toys / "figures/smoke/50_data.csv").exists()
    assert (toys / "data/results/smoke.jsonl").read_text() == ""


def test_a_failure_says_where_and_stops(toys, capsys):
    notebook(toys, "30_second", "numbers = {}\nnumbers['lost']")
    assert run() == 1
    said = capsys.readouterr().err
    assert "30_second failed in cell 4 (In [4]): KeyError: 'lost'" in said
    assert "data/runs/smoke/notebooks/30_second.ipynb" in said and "Traceback" not in said
    assert {stem: record["status"] for stem, record in records(toys).items()} == {"10_first": "done",
                                                                                  "30_second": "failed"}
    assert not (toys / "figures/smoke").exists()


def test_unchanged_stages_are_skipped(toys, fast):
    assert run() == 0 and fast == ["10_first", "30_second", "60_table"]
    fast.clear()
    os.utime(toys / "nbs/paper/10_first.ipynb")
    assert run() == 0 and fast == []
    assert run("--force", "--from", "30") == 0 and fast == ["30_second", "60_table"]


def test_a_changed_measurement_runs_what_follows(toys, fast):
    run()
    fast.clear()
    notebook(toys, "10_first", MEASURE.format(stem="10_first", value=0.75))
    assert run() == 0 and fast == ["10_first", "30_second", "60_table"]


def test_a_change_upstream_is_remembered_by_the_stages_behind_it(toys, fast):
    "If an early stage is run alone, the later ones are still out of date afterwards."
    run()
    notebook(toys, "10_first", MEASURE.format(stem="10_first", value=0.75))
    run("--only", "10")
    fast.clear()
    assert run() == 0 and fast == ["30_second", "60_table"]


def test_a_change_behind_runs_nothing_in_front(toys, fast):
    run()
    fast.clear()
    notebook(toys, "50_late", MEASURE.format(stem="50_late", value=0.1))
    assert run() == 0 and fast == ["50_late", "60_table"]
    fast.clear()
    notebook(toys, "60_table", SHOW.format(stem="60_table") + "  # another look")
    assert run() == 0 and fast == ["60_table"]


def test_changed_code_runs_those_that_use_it(toys, fast, tmp_path, monkeypatch):
    package = tmp_path / "dark"
    (package / "core").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "core" / "__init__.py").write_text("")
    files = {"ledger": "class Ledger: size = 1\n", "repro": "def sha256(): return 1\n", "stats": "x = 1\n"}
    for name, text in files.items():
        (package / "core" / f"{name}.py").write_text(text)
    monkeypatch.setattr("dark.paper.stages.package", package)
    run()
    fast.clear()
    (package / "core" / "stats.py").write_text("x = 2\n")   # nobody uses it
    (package / "core" / "repro.py").write_text("def sha256(): return 1  # a comment\n")
    assert run() == 0 and fast == []
    (package / "core" / "ledger.py").write_text("from .stats import x\nclass Ledger: size = x\n")
    assert run() == 0 and fast == ["10_first", "30_second", "60_table"]
    fast.clear()
    (package / "core" / "stats.py").write_text("x = 3\n")   # now it counts, through the ledger
    assert run() == 0 and fast == ["10_first", "30_second", "60_table"]


def test_profiles_do_not_share_results(toys, fast):
    run()
    fast.clear()
    assert pipeline.dark_paper(["--profile", "phantom"]) == 0
    assert fast == ["10_first", "30_second", "60_table"]


PHANTOM = """
00_setup 10_data 20_teacher 30_train 40_zero_shot 41_probe 42_embeddings 43_coreml 50_published_teacher
51_published_confusions 60_table1_zero_shot 61_table2_probing 63_table4_coreml 70_figure2_dynamics
71_figure_embeddings 72_figure_logits 73_figure_dynamics 74_figure_confusions 79_figureS1_phantom 90_claims
""".split()
RUNS = {"smoke": PHANTOM, "phantom": sorted([*PHANTOM, "65_processors"]),
        "hc18": ["00_setup", "32_hc18", "33_elsewhere", "50_published_teacher", "62_table3_hc18", "64_elsewhere",
                 "66_processors_hc18", "75_figure_hc18", "76_figure_elsewhere", "90_claims"],
        "speed": ["47_speed", "48_gpu"],
        "sweeps": ["36_sweeps", "67_table5_ablation", "77_figure_plane", "78_figure_regimes", "90_claims",
                   "91_verdict"],
        "paper": ["00_setup", "45_zero_shot_real", "46_probe_real", "50_published_teacher", "90_claims"]}


@pytest.mark.parametrize("profile", RUNS)
def test_which_stages_a_profile_runs(profile):
    assert [stage.stem for stage in all_stages(profile)] == RUNS[profile]


@pytest.mark.parametrize("stage", all_stages(), ids=lambda stage: stage.stem)
def test_what_a_stage_says_of_itself(stage):
    "Its home comes first and is what its notebook starts with; its needs are items."
    assert f'profile = "{stage.profiles[0]}"' in stage.notebook.read_text().replace('\\"', '"')
    assert len(set(stage.profiles)) == len(stage.profiles) and set(stage.profiles) <= set(RUNS)
    assert needed_items(stage) == sorted(stage.needs)


@pytest.mark.parametrize("line, said", [
    ('profiles = ["fantom"]', "profiles of 60_table is wrong: unknown profile 'fantom'"),
    ("profil = []", "60_table does not say its profiles"),
])
def test_a_notebook_that_does_not_say_where_it_belongs(toys, fast, capsys, line, said):
    notebook(toys, "60_table", "1", parameters=f'profile = "phantom"\n{line}\nneeds = []')
    assert run() == 2 and fast == []
    assert said in capsys.readouterr().err


def test_a_profile_runs_its_own_stages(toys, fast):
    notebook(toys, "00_setup", "1", PARAMETERS.replace('"smoke"', '"smoke", "hc18"'))
    for stem in ("32_hc18", "62_table3_hc18"):
        notebook(toys, stem, "1", 'profile = "hc18"\nprofiles = ["hc18"]\nneeds = []')
    assert run() == 0 and fast == ["00_setup", "10_first", "30_second", "60_table"]
    fast.clear()
    assert pipeline.dark_paper(["--profile", "hc18"]) == 0
    assert fast == ["00_setup", "32_hc18", "62_table3_hc18"]


@pytest.mark.parametrize("damage", ["remove", "edit", "ledger"])
def test_lost_results_are_made_again(toys, fast, damage):
    run()
    fast.clear()
    table = toys / "figures/smoke/60_table.csv"
    if damage == "remove":
        table.unlink()
    if damage == "edit":
        table.write_text("by hand")
    if damage == "ledger":
        ledger = toys / "data/results/smoke.jsonl"
        ledger.write_text(ledger.read_text().splitlines()[0] + "\n")
    assert run() == 0 and fast == (["30_second"] if damage == "ledger" else ["60_table"])
    fast.clear()  # once the measurement is back, the table made from it holds
    assert run() == 0 and fast == [] and "by hand" not in table.read_text()


@pytest.mark.parametrize("arguments, said", [
    (["--profile", "fantom"], "unknown profile 'fantom'; known profiles: smoke, phantom"),
    (["--profile", "smoke", "--only", "70"], "'70' is no stage: choose from 10_first, 30_second, 60_table"),
    (["--profile", "smoke", "--from", "x"], "'x' is no stage"),
])
def test_wrong_arguments(toys, fast, capsys, arguments, said):
    assert pipeline.dark_paper(arguments) == 2
    assert said in capsys.readouterr().err and fast == [] and not (toys / "data").exists()


@pytest.mark.parametrize("profile, asked, said", [
    ("phantom", "45", "45_zero_shot_real is a stage of another profile: dark_paper --profile paper"),
    ("paper", "30", "30_train is a stage of another profile: dark_paper --profile phantom"),
])
def test_a_stage_of_another_profile(capsys, profile, asked, said):
    assert pipeline.dark_paper(["--profile", profile, "--only", asked]) == 2
    assert said in capsys.readouterr().err


def test_contradicting_arguments(toys, capsys):
    with pytest.raises(SystemExit) as exit:
        run("--only", "10", "--from", "30")
    assert exit.value.code == 2 and "not allowed with" in capsys.readouterr().err


def test_a_notebook_without_the_parameter(toys, fast, capsys):
    notebook(toys, "60_table", "1", parameters=PARAMETERS.replace("profile =", "profil ="))
    assert run() == 2 and fast == []
    assert "60_table has no parameter profile" in capsys.readouterr().err


@pytest.mark.parametrize("file, content", [
    ("data/runs/smoke/stages.json", '{"10_first": '), ("data/runs/smoke/stages.json", '{"10_first": {}}'),
    ("data/results/smoke.jsonl", '{"stage": "10_first"}\n'), ("figures/smoke/run.json", "[]"),
])
def test_damaged_files_are_named(toys, fast, capsys, file, content):
    run()
    (toys / file).write_text(content)
    capsys.readouterr()
    fast.clear()
    assert run() == 1 and fast == []
    said = capsys.readouterr().err
    assert file in said and "elete" in said and "Traceback" not in said


def test_the_list_runs_nothing(toys, fast, capsys):
    assert run("--list") == 0 and fast == [] and not (toys / "data").exists()
    assert capsys.readouterr().out.count("never run") == 3
    run()
    notebook(toys, "30_second", MEASURE.format(stem="30_second", value=0.9))
    capsys.readouterr()
    assert run("--list") == 0
    said = [line.split(maxsplit=2)[2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert said == ["done", "stale: notebook changed", "stale: 30_second comes first"]


def test_the_report_says_of_which_code_its_results_are(toys, fast):
    "And not what has changed since: that is for the list."
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "nbs"], ["commit", "-q", "-m", "First"]):
        subprocess.run([*command, *words], cwd=toys, check=True)
    run()
    [commit] = set(json.loads((toys / "figures/smoke/run.json").read_text())["commits"].values())
    notebook(toys, "10_first", MEASURE.format(stem="10_first", value=0.75))
    assert run("--only", "10") == 0
    page = (toys / "figures/smoke/report.html").read_text()
    assert page.count(f"Results of commit {commit}.<") == 2
    assert page.count(f"Results of commit {commit}, with changes.<") == 1
    assert "stale" not in page


@pytest.mark.parametrize("profile", ["phantom", "hc18"])
def test_shipped_reports_say_of_which_code_they_are(profile):
    page = (ROOT / "figures" / profile / "report.html").read_text(encoding="utf-8")
    known = {stage.stem for stage in all_stages(profile)}
    assert set(re.findall(r'<(?:article|details) id="(\d\w+)"', page)) == known and "stale" not in page
    assert page.count("<p>Results of commit ") == page.count('class="status"') >= len(known)


def test_ctrl_c_and_continue(toys, fast):
    "The kernel ends with the command, the record tells where it was, and the same command goes on from there."
    notebook(toys, "30_second", "import os, time\nPath('kernel').write_text(str(os.getpid()))\ntime.sleep(60)")
    command = [sys.executable, "-c", "import sys; from dark.paper.run import dark_paper; sys.exit(dark_paper())",
               "--profile", "smoke"]
    process = subprocess.Popen(command, cwd=toys, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: (toys / "kernel").is_file() and (toys / "kernel").read_text())
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.endswith("interrupted in 30_second; run it again, without --force, to continue\n")
    assert "Traceback" not in said
    wait_for(lambda: not alive(int((toys / "kernel").read_text())), 5)
    assert {stem: record["status"] for stem, record in records(toys).items()} == {"10_first": "done",
                                                                                  "30_second": "interrupted"}
    notebook(toys, "30_second", MEASURE.format(stem="30_second", value=0.5))
    assert run() == 0 and fast == ["30_second", "60_table"]


def test_ctrl_c_among_stages_that_show(toys):
    "Those that have begun end, the others do not begin, none is called done, and the same command goes on."
    for number in range(61, 67):
        notebook(toys, f"{number}_slow", f"import time\nPath('begun-{number}').write_text('')\ntime.sleep(4)")
    command = [sys.executable, "-c", "import sys; from dark.paper.run import dark_paper; sys.exit(dark_paper())",
               "--profile", "smoke"]
    process = subprocess.Popen(command, cwd=toys, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: any(toys.glob("begun-*")))
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted in " in said and "Traceback" not in said
    assert len(list(toys.glob("begun-*"))) < 6
    shown = {stem: record["status"] for stem, record in records(toys).items() if stem[0] == "6"}
    assert set(shown.values()) == {"interrupted"} and len(shown) == 7


@pytest.mark.slow
def test_smoke_runs(smoke):
    assert smoke.returncode == 0, smoke.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("stem", [stage.stem for stage in all_stages("smoke")])
def test_smoke_leaves_the_artefacts_of_each_stage(smoke, stem):
    "A stage that ran has left an executed copy without errors, and something to look at; one that did not, nothing."
    record = json.loads((ROOT / "data/runs/smoke/stages.json").read_text())[stem]
    name = "claims" if stem == "90_claims" else stem  # one page, of which smoke keeps its own
    shown = [path for path in (ROOT / "figures/smoke").glob(f"{name}.*") if path.stat().st_size]
    measured = [line for line in (ROOT / "data/results/smoke.jsonl").read_text().splitlines()
                if json.loads(line)["stage"] == stem]
    if record["status"] == "not run":
        assert record["detail"].startswith("needs `dark_fetch ") and not shown and not measured
    else:
        copy = load(ROOT / "data/runs/smoke/notebooks" / f"{stem}.ipynb")
        outputs = [output for cell in copy["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]
        assert record["status"] == "done" and not any(output["output_type"] == "error" for output in outputs)
        assert shown or measured or stem.startswith("00"), f"{stem} left nothing behind"
        assert shown or int(stem[:2]) < 60, f"{stem} shows nothing"
        kinds = {path.name.removeprefix(name) for path in shown}
        assert ".png" not in kinds or {".pdf", ".caption.md"} <= kinds, f"{stem} has a figure without its caption"


@pytest.mark.slow
def test_smoke_report(smoke):
    page = (ROOT / "figures/smoke/report.html").read_text(encoding="utf-8")
    assert all(f'id="{stage.stem}"' in page for stage in all_stages("smoke"))
    assert str(ROOT) not in page


@pytest.mark.slow
def test_smoke_is_not_run_twice(smoke):
    "A second run finds everything up to date, but for what needs data that is not there."
    before = (ROOT / "data/results/smoke.jsonl").read_bytes()
    again = dark_paper("--profile", "smoke", timeout=120)
    assert again.returncode == 0, again.stderr[-3000:]
    statuses = {line.split()[0]: line.split(maxsplit=2)[2] for line in again.stdout.splitlines()[1:-1]}
    assert again.stdout.splitlines()[-1] == "report: figures/smoke/report.html"
    assert set(statuses) == {stage.stem for stage in all_stages("smoke")}
    assert {stem: s for stem, s in statuses.items() if s != "unchanged" and not s.startswith("not run: needs")} == {}
    assert (ROOT / "data/results/smoke.jsonl").read_bytes() == before


@pytest.mark.skipif(not settings(), reason="this processor has no older instructions to be told to use")
def test_smoke_on_an_older_processor(smoke, monkeypatch):
    "The whole default on another kind of processor: numbers move, what is said of them does not."
    monkeypatch.setenv("PYTHONPATH", ONE_CORE)
    shown, other = Ledger("smoke").read(), measure_setting("smoke", "default/threads-1")
    verdicts = []
    for ledger in (shown[shown["stage"] == "40_zero_shot"], other):
        found = family(pd.read_csv(ROOT / "data/reference/claims.csv", keep_default_na=False), ledger)
        verdicts.append({claim: direction(*test) for claim, test in found.items()})
    assert verdicts[0] == verdicts[1] and {"P1", "C8", "R3"} <= set(verdicts[0])
    for name in ("teacher", "no-kd", "dark-b2-e-0.8"):
        one, two = (final_scores(ledger, name, "avg") for ledger in (shown, other))
        assert one.index.equals(two.index) and (one - two).abs().max() < 0.2
