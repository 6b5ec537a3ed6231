"What stage notebooks show belongs to the committed measurements, and to no machine."
import json
import re

import pytest

from dark.core import paths
from dark.paper.publish import stale_outputs
from dark.paper.report import deeper
from dark.paper.stages import all_stages, read_notebook

HOMES = ("phantom", "hc18", "sweeps", "speed")  # profiles with committed results
# Measured on other machines: their notebooks show nothing, the stages after them do.
ELSEWHERE = {"32_hc18", "33_elsewhere", "48_gpu"}
SHOWING = [stage for stage in all_stages() if stage.profiles[0] in HOMES and stage.stem not in ELSEWHERE]


def outputs(stage):
    "All outputs of a stage's notebook."
    cells = json.loads(stage.notebook.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]


def test_outputs_are_of_the_committed_measurements():
    assert stale_outputs() == []


def test_the_exceptions_are_stages_that_show_nothing():
    stages = {stage.stem: stage for stage in all_stages()}
    assert ELSEWHERE <= {*stages} and [stem for stem in ELSEWHERE if outputs(stages[stem])] == []


def test_the_notebook_of_the_claims_shows_their_page():
    page = (paths.figures / "claims.md").read_text(encoding="utf-8")
    [shown] = [output for stage in all_stages() if stage.stem == "90_claims" for output in outputs(stage)]
    assert "".join(shown["data"]["text/markdown"]) == deeper(page)


@pytest.mark.parametrize("stage", SHOWING, ids=lambda stage: stage.stem)
def test_a_stage_shows_what_it_made(stage):
    metadata = read_notebook(stage.notebook)["metadata"]
    assert outputs(stage) and metadata["dark"]["profile"] == stage.profiles[0]


@pytest.mark.parametrize("stage", all_stages(), ids=lambda stage: stage.stem)
def test_outputs_are_of_no_machine(stage):
    words = re.sub('"image/png": "[^"]*"', "", json.dumps(outputs(stage)))
    assert not re.search(r"/(home|root|tmp|Users)/|Warning|\d+%\|", words)
    assert all(output["output_type"] in ("display_data", "execute_result", "stream") for output in outputs(stage))
    assert all(output["name"] == "stdout" for output in outputs(stage) if output["output_type"] == "stream")
    assert str(paths.root) not in words
