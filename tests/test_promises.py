"The page of promises names tests that exist, and its table has every test of bad input."
import ast
import csv
import re

from conftest import ROOT, load

PAGE = ["".join(cell["source"]) for cell in load(ROOT / "nbs" / "promises.ipynb")["cells"]]


def functions(file):
    "Names of the tests of a file."
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_tests_of_the_page_exist():
    links = re.findall(r"\[(\w+)\]\(\.\./(tests/[\w/]+\.py)\)", "\n".join(PAGE))
    assert len(links) > 10
    for name, file in links:
        assert name == (ROOT / file).stem or name in functions(ROOT / file), f"{file} has no {name}"


def test_every_test_of_a_stopped_run_is_on_the_page():
    assert all(name in "\n".join(PAGE) for name in functions(ROOT / "tests" / "hard" / "test_stopped.py"))


def test_the_table_is_of_the_tests_that_there_are():
    "Made by `make promises`; run it after a change of tests/test_robust_*.py."
    with open(ROOT / "figures" / "promises.csv", encoding="utf-8", newline="") as file:
        told = {row["test"] for row in csv.DictReader(file)}
    files = sorted((ROOT / "tests").glob("test_robust_*.py"))
    assert told == {f"tests/{file.name}::{name}" for file in files for name in functions(file)}
