"What goes with the code into archives and images: metadata, pages and recipes for containers agree with it."
import configparser
import json
import os
import re
import subprocess

import pytest
import yaml
from conftest import ROOT
from test_docs import TARGETS, commands, dead_links, problem, unknown_names

from dark.data.datasheet import phantom_sheet

PAGES = ["CHECKLIST.md", "CHANGELOG.md", "data/phantom.md"]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def settings():
    config = configparser.ConfigParser(delimiters=["="])
    config.read_string(text("settings.ini"))
    return config["DEFAULT"]


@pytest.mark.parametrize("name", PAGES)
def test_links_and_names_of_the_pages_are_there(name):
    assert dead_links(text(name), (ROOT / name).parent) == [] and unknown_names(text(name)) == []


@pytest.mark.parametrize("words", sorted({tuple(words) for name in PAGES for words in commands(text(name))}),
                         ids=" ".join)
def test_commands_of_the_pages_can_be_given(words, capsys):
    assert problem(words, capsys) == ""


def unanswered(page) -> list:
    "Questions of a checklist without an answer, or with one that nothing proves."
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines()
            if re.match(r"\| (?!---|question)", line)]
    return [row[0] for row in rows if len(row) != 3 or row[1] not in ("yes", "in part", "no", "n/a")
            or row[1] != "n/a" and "](" not in row[2]]


def test_every_question_has_an_answer_that_links_lead_to():
    assert unanswered(text("CHECKLIST.md")) == [] and len(re.findall(r"^\| .*\?", text("CHECKLIST.md"), re.M)) >= 10
    assert unanswered("| question | answer | where |\n| --- | --- | --- |\n| A? | yes | here |\n| B? |  | [b](b) |"
                      "\n| C? | n/a | none |\n| D? | yes | [d](d) |") == ["A?", "B?"]


def test_the_datasheet_is_what_the_code_says():
    assert text("data/phantom.md") == phantom_sheet(), "run: make cards"


def facts():
    "Name of a file -> what it says of the project; the paper last, where it says that."
    cite, zenodo, meta = yaml.safe_load(text("CITATION.cff")), *(json.loads(text(n)) for n in (".zenodo.json",
                                                                                              "codemeta.json"))
    own, paper = settings(), cite["preferred-citation"]
    names = lambda people: [person["name"] for person in people]
    return {
        "CITATION.cff": [cite["title"], cite["version"], cite["license"], names(cite["authors"])],
        ".zenodo.json": [zenodo["title"], zenodo["version"], zenodo["license"], names(zenodo["creators"])],
        "codemeta.json": [meta["name"], meta["version"], meta["license"].rpartition("/")[2], names(meta["author"])],
        "settings.ini": [cite["title"], own["version"], re.search(r'license="(.*?)"', text("setup.py"))[1],
                         [own["author"]]],
    }, {
        "keywords": [own["keywords"].split(), zenodo["keywords"], meta["keywords"]],
        "description": [own["description"], zenodo["description"], meta["description"]],
        "home": [own["git_url"], meta["codeRepository"]],
        "python": [f"Python >={own['min_python']}", meta["runtimePlatform"]],
        "package": [own["lib_name"], meta["identifier"]],
        "paper": [(paper["title"], paper["identifiers"][0]["value"]),
                  (meta["referencePublication"]["name"], meta["referencePublication"]["identifier"])],
        "cited": [cited(cite), [line["identifier"] for line in zenodo["related_identifiers"]]],
    }


def cited(cite):
    "Identifiers of the paper, and of what CITATION.cff refers to, in its order."
    works = [cite["preferred-citation"], *cite["references"]]
    return [work["doi"] if "doi" in work else work["identifiers"][0]["value"] for work in works]


def test_metadata_agree():
    files, rest = facts()
    assert {name: told for name, told in files.items() if told != files["CITATION.cff"]} == {}
    assert {what: told for what, told in rest.items() if any(said != told[0] for said in told)} == {}
    assert "title = dark\n" in text("settings.ini") and files["CITATION.cff"][0].startswith("dark: ")


def test_the_changelog_begins_with_this_version():
    page = text("CHANGELOG.md")
    versions = re.findall(r"^## \[(.*?)\] - (Unreleased|\d{4}-\d\d-\d\d)$", page, re.M)
    assert versions[0][0] == settings()["version"] and len(versions) == page.count("\n## ")
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", page, re.M)) <= kinds


def instructions(file):
    "Instruction and words of each line of a Dockerfile; continued lines are one."
    joined = re.sub(r"\\\n\s*", "", file)
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line and line[0] != "#"]


def lost_copies(file) -> list:
    "What a Dockerfile copies, and is not there."
    words = [[w for w in told.split() if not w.startswith("--")] for name, told in instructions(file) if name == "COPY"]
    return [source for line in words for source in line[:-1] if not (ROOT / source).exists()]


def lost_targets(told) -> list:
    "Targets of make in a text, that the Makefile does not have."
    calls = [words for line in re.findall(r"\bmake ((?:[A-Z]+=\S+ )?[a-z][a-z -]*)", told) for words in [line.split()]]
    return [word for words in calls for word in words if "=" not in word and word not in TARGETS]


def test_the_image_is_made_of_what_is_there():
    file = text("Dockerfile")
    told = instructions(file)
    assert lost_copies(file) == [] and lost_copies("COPY --chown=a Makefile nothing ./") == ["nothing"]
    run = "\n".join(words for name, words in told if name == "RUN")
    assert lost_targets("make PYTHON=python env") == [] and lost_targets("make tea") == ["tea"]
    assert lost_targets(run.replace("git make", "")) == [] and "make PYTHON=python env" in run
    assert told[0] == ("FROM", f"python:{settings()['min_python']}-slim")
    users = [words for name, words in told if name == "USER"]
    assert users == ["reader"] and "useradd --create-home reader" in run
    assert f"--owner reader {dict(told)['WORKDIR']}" in run
    command = json.loads(dict(told)["CMD"])
    assert (ROOT / command[-1]).is_file() and command[1] == "lab"


def test_what_the_environment_is_made_from_is_copied_before_it():
    "Prerequisites of the target in the Makefile, and what setup.py reads."
    told = instructions(text("Dockerfile"))
    before = told[: next(i for i, (name, words) in enumerate(told) if name == "RUN" and "env" in words.split())]
    copied = {word for name, words in before if name == "COPY" for word in words.split()}
    needed = set(re.search(r"^\$\(STAMP\): (.*)$", text("Makefile"), re.M)[1].split())
    needed |= {"Makefile", "dark", *re.findall(r'/ "([\w.]+)"', text("setup.py"))}
    assert needed <= copied and len(needed) >= 7


def test_what_is_fetched_stays_out_of_the_image():
    left_out = text(".dockerignore").split("\n")
    assert {"/data/raw/", "/data/weights/", "/data/cache/", "/data/runs/", "/.venv/"} <= set(text(".gitignore").split())
    assert {"data/raw", "data/weights", "data/cache", "data/runs", ".venv"} <= set(left_out)


def test_the_development_container_builds_the_same_environment():
    told = json.loads(text(".devcontainer/devcontainer.json"))
    assert told["image"].rpartition(":")[2] == settings()["min_python"] and told["remoteUser"] != "root"
    assert lost_targets(told["postCreateCommand"]) == [] and " env" in told["postCreateCommand"]
    interpreter = told["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter == "${containerWorkspaceFolder}/.venv/bin/python"


def test_binder_builds_the_same_environment():
    "It names no package that settings.ini has, so that the two cannot differ."
    told = yaml.safe_load(text(".binder/environment.yml"))
    assert told["dependencies"] == [f"python={settings()['min_python']}", "make"]
    script = ROOT / ".binder/postBuild"
    assert os.access(script, os.X_OK) and subprocess.run(["bash", "-n", script], check=False).returncode == 0
    lines = "\n".join(line for line in text(".binder/postBuild").splitlines() if not line.startswith("#"))
    assert lost_targets(lines) == [] and "make PYTHON=python env" in lines
    kernel = json.loads(text("nbs/index.ipynb"))["metadata"]["kernelspec"]["name"]
    assert f"--name {kernel} " in lines  # the kernel that the notebooks ask for
