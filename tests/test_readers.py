"The two notebooks for readers run from top to bottom: what is drawn has no error, what is trained has learnt."
import json
import os
import re

import nbformat
import pytest
from conftest import ROOT, load
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from dark.paper.outputs import shown
from dark.paper.stages import SocketKernel, own_kernel

TOLD = """print(json.dumps({"accuracy": accuracy["value"].to_dict(), "low": accuracy["low"].to_dict(),
                  "models": [name for name in accuracy.index if Path(name, "open_clip_model.safetensors").is_file()],
                  "sizes": towers, "folder": os.getcwd()}))"""


def executed(name, folder, *cells, **parameters):
    "A notebook of nbs/ after a run elsewhere, with cells added before its last."
    notebook = load_notebook_node(str(ROOT / "nbs" / name))
    if parameters:
        notebook = parameterize_notebook(notebook, parameters)
    notebook.cells[-1:-1] = [new_code_cell(source) for source in cells]
    with own_kernel():
        return NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}},
                              kernel_manager_class=SocketKernel).execute()


def test_explore_draws_without_and_with_sliders(tmp_path):
    "What goes wrong inside a box of sliders is seen by no cell: a third box shows that it is seen here."
    wrong = "interactive_output(lambda w_off: 1 / 0, {'w_off': w_off})"
    widgets = executed("explore.ipynb", tmp_path, wrong).metadata["widgets"]
    states = widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    boxes = [state["state"]["outputs"] for state in states if "outputs" in state["state"]]
    assert [box[0]["output_type"] for box in boxes] == ["display_data", "display_data", "error"]
    assert all("image/png" in box[0]["data"] for box in boxes[:2])


def test_the_tutorial_ends_with_students_that_have_learnt(tmp_path):
    ended = executed("tutorial.ipynb", tmp_path, TOLD, teacher_epochs=4, epochs=3)
    told = json.loads(ended.cells[-2].outputs[0].text)
    known = {"teacher", "alone", "by-hand", "by-fit", "student", "merged"}
    assert set(told["models"]) == known == set(told["accuracy"])
    assert min(told["low"][who] for who in ("teacher", "by-fit", "student")) > 0.1, told  # chance is one of ten
    assert told["sizes"]["teacher"] > 20 * told["sizes"]["student"]
    assert list(tmp_path.iterdir()) == [] and not os.path.exists(told["folder"])  # it leaves nothing
    kept = {cell.source: shown(cell) for cell in nbformat.read(ROOT / "nbs" / "tutorial.ipynb", 4).cells}
    code = [cell for cell in ended.cells if cell.cell_type == "code"]
    of_ledger = [cell for cell in code if re.search(r"\bledger( =|\))", cell.source)]
    assert len(of_ledger) == 2
    assert [shown(cell) for cell in of_ledger] == [kept[cell.source] for cell in of_ledger], "run: make outputs"


@pytest.mark.parametrize("name", ["explore.ipynb", "tutorial.ipynb"])
def test_what_is_kept_can_be_read_without_a_kernel(name):
    "Pictures and tables, no bars, warnings or boxes of sliders."
    outputs = [output for cell in load(ROOT / "nbs" / name)["cells"] if "outputs" in cell for output in cell["outputs"]]
    assert sum("data" in output and "image/png" in output["data"] for output in outputs) >= 4
    assert {output["name"] for output in outputs if "name" in output} <= {"stdout"}
    assert not any("widget" in key for output in outputs if "data" in output for key in output["data"])
