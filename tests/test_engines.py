"""Other engines compute what torch computes, and how fast they are beside it."""
import pytest
import torch
from timm.utils import reparameterize_model

from dark.core.compute import set_threads
from dark.device.cost import STUDENT_SIZE, full_student, interleave, onnx_call, quartiles


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return reparameterize_model(full_student().visual.eval())


@pytest.fixture(scope="module")
def picture():
    return torch.rand(1, 3, STUDENT_SIZE, STUDENT_SIZE, generator=torch.Generator().manual_seed(1))


def compare(tower, picture, call, name):
    "The other engine's embedding is torch's; its times are taken in turn with torch's."
    with torch.inference_mode():
        torch.testing.assert_close(call(), tower(picture), rtol=1e-3, atol=1e-4)
        times = interleave({"torch": lambda: tower(picture), name: call}, 15)
    gain = quartiles(times["torch"] / times[name])
    print(f"{name}: {gain['value']:.2f} times torch's speed [{gain['low']:.2f}, {gain['high']:.2f}]")
    assert gain["value"] > 0.5


@pytest.mark.full
def test_compiled(tower, picture):
    "Needs a C++ compiler; minutes to compile, which is why stage 43 leaves it out."
    set_threads(1)
    compiled = torch.compile(tower)
    compare(tower, picture, lambda: compiled(picture), "torch.compile")


@pytest.mark.full
def test_onnx_runtime(tower, picture):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason='needs pip install --editable ".[onnx]"')
    set_threads(1)
    call = onnx_call(tower, picture, 1)
    compare(tower, picture, lambda: torch.from_numpy(call()[0]), "ONNX Runtime")
