"One list of requirements, in settings.ini; what else names versions agrees with it."
import configparser
import subprocess
import sys
from importlib.metadata import distributions, version

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement


def settings():
    config = configparser.ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def required(*keys):
    "Normalised name -> version specifier."
    found = [Requirement(text) for key in keys for text in settings()[key].split()]
    return {normal(r.name): r.specifier for r in found}


def normal(name):
    return name.lower().replace("_", "-").replace(".", "-")


def conda_pip_lines():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    return next(item["pip"] for item in listed if isinstance(item, dict))


def test_conda_installs_what_make_installs(tmp_path):
    "conda hands these lines to pip as a file of requirements beside environment.yml."
    lines = conda_pip_lines()
    asked = (ROOT / "Makefile").read_text(encoding="utf-8").replace('"', "")
    assert all(line in asked for line in lines) and len(lines) == 2
    (tmp_path / "lines.txt").write_text("\n".join(lines).replace("constraints.txt", str(ROOT / "constraints.txt")))
    parsed = subprocess.run(
        [sys.executable, "-c", "import sys\nfrom pip._internal.network.session import PipSession\n"
         "from pip._internal.req.req_file import parse_requirements\n"
         "for r in parse_requirements(sys.argv[1], session=PipSession()):\n"
         "    print(r.constraint, r.is_editable, r.requirement)",
         str(tmp_path / "lines.txt")], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "False True .[dev]" in parsed
    assert any(line.startswith("True False torch==") for line in parsed)


def differences(one, other):
    return sorted(name for name in one.keys() | other.keys()
                  if name not in one or name not in other or one[name] != other[name])


def test_the_comparison_finds():
    one, other = {"a": "1", "b": "", "c": "1"}, {"a": "2", "c": "1"}
    assert differences(one, other) == ["a", "b"]


@pytest.mark.parametrize("name, specifier", required("requirements", "dev_requirements").items())
def test_what_is_installed_is_what_is_required(name, specifier):
    assert specifier.contains(version(name), prereleases=True)


def test_torch_is_bounded():
    "Without an upper end, installers fetch gigabytes of CUDA packages onto machines that have no GPU."
    assert any(bound.operator == "<" for bound in required("requirements")["torch"])


def test_one_python():
    lowest = settings()["min_python"]
    assert f'"python>={lowest},' in (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert f"python{lowest} " in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f'target-version = "py{lowest.replace(".", "")}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_one_version():
    assert f'__version__ = "{settings()["version"]}"' in (ROOT / "dark" / "__init__.py").read_text(encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == settings()["version"]
    assert citation["preferred-citation"]["identifiers"][0]["value"] == "arXiv:2603.05421"


def pins(platform=sys.platform):
    "Normalised name -> version of constraints.txt."
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(len(r.specifier) == 1 and str(r.specifier).startswith("==") and not r.url for r in found)
    return {normal(r.name): str(r.specifier).removeprefix("==") for r in found
            if not r.marker or r.marker.evaluate({"sys_platform": platform})}


def test_pins_know_what_a_mac_needs():
    "Whatever an installed package asks for there is pinned too."
    asked = [Requirement(line) for d in distributions() for line in d.requires or ()
             if normal(d.metadata["Name"]) in pins()]
    there = {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix",
             "extra": ""}
    wanted = {normal(r.name): r.specifier for r in asked if not r.marker or r.marker.evaluate(there)}
    assert len(wanted) > 50 and sorted(wanted.keys() - pins("darwin").keys() - {"setuptools", "wheel"}) == []
    assert [n for n, s in wanted.items() if n in pins("darwin") and not s.contains(pins("darwin")[n])] == []


def test_pins_hold_for_every_index():
    "No label of a local build, no hash, no address."
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if line[0] != "#")
    assert not any(mark in text for mark in ("+", "@", "--", ":", "/"))


def test_pins_are_in_the_ranges():
    wanted, pinned = required("requirements", "dev_requirements"), pins()
    assert not sorted(wanted.keys() - pinned.keys())
    assert [name for name, specifier in wanted.items() if not specifier.contains(pinned[name])] == []


def test_what_is_pinned_is_installed():
    installed = {name: version(name).partition("+")[0] for name in pins()}
    assert differences(installed, pins()) == []


def test_accelerate_launch_starts_a_program_that_imports_open_clip(tmp_path):
    (tmp_path / "run.py").write_text("import open_clip, accelerate; print(accelerate.PartialState().num_processes)")
    words = ["--cpu", "--num_processes=1", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    done = subprocess.run([sys.executable, "-m", "accelerate.commands.launch", *words, tmp_path / "run.py"],
                          capture_output=True, text=True, cwd="/")
    assert done.returncode == 0 and done.stdout.split()[-1] == "1", done.stderr


@pytest.mark.parametrize("code", [
    "import open_clip", "from torchvision.transforms import v2", "import timm, torchvision.ops",
    "import timm; from torchvision.transforms import v2"])
def test_any_process_imports_torchvision(code):
    "One that knows nothing of dark too, as `accelerate launch` starts them; `make env` lays the line for it."
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
