"What the pages say exists: every link, every name of the package, every command with its options, stages and items."
import importlib
import re
import shlex

import pytest
from conftest import ROOT, load
from rules import cell_sources

from dark.analyse.own import dark_eval
from dark.core.command import exits
from dark.data.download import dark_fetch
from dark.data.sources import items
from dark.distil.full_size import dark_distil
from dark.paper.doctor import dark_doctor
from dark.paper.processors import dark_processors
from dark.paper.run import dark_paper, parse_arguments
from dark.paper.stages import all_stages, find_stage
from dark.paper.verify import dark_verify
from dark.recipe import get_profile, get_recipe, profiles

PAGES = ["README.md", "CONTRIBUTING.md", "data/README.md", "data/devices/README.md", "data/reference/README.md",
         "nbs/explore.ipynb", "nbs/tutorial.ipynb"]
COMMANDS = {"dark_paper": dark_paper, "dark_fetch": dark_fetch, "dark_doctor": dark_doctor, "dark_distil": dark_distil,
            "dark_eval": dark_eval, "dark_verify": dark_verify, "dark_processors": dark_processors}
PLACEHOLDERS = {"NN", "ITEM", "item", "<item>", "...", "P"}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))


def page(name):
    if name.endswith(".ipynb"):
        return "\n".join(cell_sources(load(ROOT / name), "markdown"))
    return (ROOT / name).read_text(encoding="utf-8")


def dead_links(text, folder) -> list:
    "Relative links that lead nowhere."
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in links if not re.match(r"[a-z]+:|#", link) and not (folder / link.split("#")[0]).exists()]


def unknown_names(text) -> list:
    "Dotted names of the package that it does not have."
    return [name for name in re.findall(r"`(dark(?:\.\w+)+)", text) if not is_there(name)]


def is_there(name) -> bool:
    "Is this a module of the package, or something in one?"
    for cut in range(len(name.split(".")), 0, -1):
        head, rest = name.split(".")[:cut], name.split(".")[cut:]
        try:
            found = importlib.import_module(".".join(head))
        except ModuleNotFoundError:
            continue
        for part in rest:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def commands(text) -> list:
    "Commands of ours in code blocks and in backticks, one list of words each."
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.S | re.M)
    lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", text)
    found = []
    for line in lines:
        match = re.search(r"(?:^|[\s/])((?:make|dark_\w+)(?: .*)?)$", line.split("  #")[0].strip())
        if match and match[1].split()[0] in {"make", *COMMANDS}:
            found.append(shlex.split(match[1]))
    return found


def problem(words, capsys) -> str:
    "Why a command cannot be given like this; empty if it can."
    name, *rest = words
    if name == "make":
        unknown = [target for target in rest if target not in TARGETS]
        return f"no target {unknown[0]}" if unknown else ""
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name](["--help"])
    told = capsys.readouterr().out
    options = [word for word in rest if word.startswith("--")]
    if ended.value.code or (unknown := [o for o in options if not re.search(rf"{re.escape(o)}\b", told)]):
        return f"{name} has no option {unknown[0]}"
    try:
        if name == "dark_paper" and not PLACEHOLDERS & set(rest):
            arguments = parse_arguments(rest)
            get_profile(arguments.profile)
            for stem in filter(None, (arguments.only, arguments.from_)):
                find_stage(stem, all_stages(arguments.profile))
        if name == "dark_fetch":
            unknown = [w for w in rest if w not in items and w not in PLACEHOLDERS and not w.startswith("-")]
            return f"no item {unknown[0]}" if unknown else ""
        if "--recipe" in rest:
            get_recipe(rest[rest.index("--recipe") + 1])
    except (LookupError, ValueError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    assert dead_links(page(name), (ROOT / name).parent) == []


@pytest.mark.parametrize("name", PAGES)
def test_names_are_there(name):
    assert unknown_names(page(name)) == []


GIVEN = sorted({tuple(words) for name in PAGES for words in commands(page(name))})


@pytest.mark.parametrize("words", GIVEN, ids=" ".join)
def test_commands_can_be_given(words, capsys):
    assert problem(words, capsys) == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples_profiles_and_exit_codes(name, capsys):
    with pytest.raises(SystemExit):
        COMMANDS[name](["--help"])
    told = capsys.readouterr().out
    examples = told.split("\nexamples:\n")[1].split("\n\n")[0].splitlines()
    assert len(examples) >= 2
    given = [words for line in examples for words in commands(f"`{line.strip()}`")]
    assert len(given) >= 2 and [said for words in given if (said := problem(words, capsys))] == []
    assert all(re.search(rf"^  {code} +{re.escape(meaning)}$", told, flags=re.M) for code, meaning in exits.items())
    known = ["phantom", "hc18"] if name == "dark_processors" else list(profiles)
    assert "--profile PROFILE" not in told or f": {', '.join(known)} (default: phantom)" in " ".join(told.split())


def test_every_command_is_known_here():
    lines = (ROOT / "settings.ini").read_text(encoding="utf-8").split("console_scripts =")[1].split()
    found = {name: getattr(importlib.import_module(home.split(":")[0]), home.split(":")[1])
             for name, home in (line.split("=") for line in lines)}
    assert found == COMMANDS


def test_the_rules_find(capsys, tmp_path):
    assert dead_links("[a](b.md) [c](https://c.org) [d](#d)", tmp_path) == ["b.md"]
    assert unknown_names("`dark.loss.dark_loss` `dark.report` `dark.core.style.nothing`") == [
        "dark.report", "dark.core.style.nothing"]
    assert commands("```\nmake test   # why\n$ dark_fetch hc18\n```\nand `dark_paper --only 00`, `print`") == [
        ["make", "test"], ["dark_fetch", "hc18"], ["dark_paper", "--only", "00"]]
    for wrong, said in ((["make", "tea"], "tea"), (["dark_paper", "--profil", "x"], "option"),
                        (["dark_paper", "--only", "99"], "99"), (["dark_fetch", "hc19"], "hc19"),
                        (["dark_paper", "--profile", "big"], "big"), (["dark_distil", "--recipe", "none"], "none")):
        assert said in problem(wrong, capsys), wrong


def test_every_item_stands_in_the_table():
    listed = re.findall(r"^\| `([\w-]+)` \|", page("data/README.md"), flags=re.M)
    assert listed == list(items)
