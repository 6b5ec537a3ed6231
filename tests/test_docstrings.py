"help() shows the comment of every parameter: the same that fastcore's parser reads."
import importlib
import inspect
import pydoc
import subprocess
import sys

import pytest
from conftest import ROOT, dotted, modules
from fastcore.docments import docments
from IPython.core.interactiveshell import InteractiveShell

from dark.distil.settings import PairRun
from dark.loss import dark_loss

NAMES = [name for name in map(dotted, modules()) if name != "core.docstrings"]  # was there before its finder


def told(thing) -> dict:
    "What a docstring says of each parameter."
    doc = f"\n\n{inspect.getdoc(thing) or ''}"
    args = doc.partition("\n\nReturns:\n")[0].partition("\n\nArgs:\n")[2]
    returned = doc.partition("\n\nReturns:\n")[2].strip()
    return dict(line.strip().split(": ", 1) for line in args.splitlines()) | ({"return": returned} if returned else {})


def commented(thing) -> dict:
    "What the comments beside the parameters say, by fastcore's parser."
    found = docments(thing, args_kwargs=True)
    first = inspect.getsource(thing).split("\ndef ")[-1].splitlines()[0]
    one_line = "#" in first and first.split("#")[0].rstrip().endswith(":")  # there it gives parameters the comment too
    return {name: said.strip().replace("\n", " ") for name, said in found.items()
            if said and not (one_line and name != "return")}


def functions(module) -> list:
    return [thing for thing in vars(module).values()
            if inspect.isfunction(thing) and thing.__module__ == module.__name__ and not hasattr(thing, "__wrapped__")]


@pytest.mark.parametrize("name", NAMES)
def test_every_comment_is_in_the_docstring(name):
    for function in functions(importlib.import_module(f"dark.{name}")):
        expected, found = commented(function), told(function)
        assert {key: found[key] for key in expected} == expected, function.__name__
        # Parameters on one line share its comment, of which the parser knows the last; nor does it read what a function
        # without an annotation returns.
        more = {key: said for key, said in found.items() if key not in expected}
        assert set(more) <= {"return", *inspect.signature(function).parameters}, function.__name__
        assert all(key == "return" or said in expected.values() for key, said in more.items()), function.__name__


def test_there_is_something_to_compare():
    assert len(commented(dark_loss)) == 8
    assert commented(dark_loss) == told(dark_loss)
    assert told(PairRun) == {key: said for key, said in commented(PairRun).items() if key != "return"} != {}


def test_help_and_shift_tab_show_them():
    said = commented(dark_loss)["off_diag"]
    assert said in pydoc.plain(pydoc.render_doc(dark_loss))
    shell = InteractiveShell()
    shell.user_ns["dark_loss"] = dark_loss
    assert said in shell.object_inspect_mime("dark_loss")["text/plain"]  # the answer to Shift-Tab


def test_help_shows_them_in_a_fresh_process():
    code = "import dark.loss; help(dark.loss.dark_loss)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert commented(dark_loss)["off_diag"] in done.stdout
