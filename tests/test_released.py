"""The released models: files with their names and shapes and made-up weights load strictly, and compute the same."""
import pickle
from pathlib import Path

import apple_fastvit
import pytest
import torch
import torch.nn.functional as F

from dark.models.clip import build, load_student, load_teacher, parameters
from dark.recipe import get_profile

PAPER = get_profile("paper")


@pytest.fixture(scope="module")
def pictures():
    return torch.randn(4, 3, 256, 256, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=[False, True], ids=["linear", "projection"])
def apple(request):
    return apple_fastvit.randomise(apple_fastvit.FastViT(request.param))


@pytest.fixture(scope="module")
def text():
    model = build("mobilefetalclip", PAPER, seed=1)
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("visual.")}


def write(path, state):
    torch.save(state, path)
    return path


@pytest.mark.parametrize("prefix, outer", [("visual.trunk.", "module."), ("image_encoder.model.", ""), ("visual.", "")])
def test_released_student(tmp_path, apple, text, pictures, prefix, outer):
    state = text | {prefix + name: tensor for name, tensor in apple.state_dict().items()}
    path = write(tmp_path / "student.pt", {"epoch": 20, "state_dict": {outer + n: t for n, t in state.items()}})
    student = load_student(PAPER, path)
    with torch.no_grad():
        ours, theirs = student.encode_image(pictures), apple(pictures)
    assert F.cosine_similarity(ours, theirs).min() > .9999
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max())
    # Random towers say nearly the same about every picture: what differs must agree as well.
    assert F.cosine_similarity(ours - ours.mean(0), theirs - theirs.mean(0)).min() > .9999
    assert torch.equal(student.text.positional_embedding, text["text.positional_embedding"])
    assert student.text.positional_embedding.shape == (117, 512)
    assert not student.training and not any(p.requires_grad for p in student.parameters())


def test_sizes(apple, text):
    student = build(PAPER.student, PAPER, seed=0)
    assert round(parameters(student) / 1e6) == 75 and round(parameters(student.visual) / 1e6, 1) == 11.4
    if isinstance(apple.head, torch.nn.Linear):
        assert parameters(apple) == parameters(student.visual)


@pytest.mark.parametrize("change, said", [
    (lambda s: {n: t for n, t in s.items() if "network.4.3" not in n}, "tensors are missing: visual.trunk.stages.2."),
    (lambda s: s | {"visual.trunk.extra": torch.zeros(1)}, "1 tensors are unexpected: visual.trunk.extra"),
    (lambda s: s | {"text.positional_embedding": torch.zeros(77, 512)},
     r"1 tensors are of another shape: text.positional_embedding \(77, 512\) instead of \(117, 512\)"),
    (lambda s: {"a": torch.zeros(1)}, "tensors are missing: .*, ...; 1 tensors are unexpected: a"),
])
def test_wrong_checkpoint(tmp_path, apple, text, change, said):
    state = text | {f"visual.trunk.{name}": tensor for name, tensor in apple.state_dict().items()}
    path = write(tmp_path / "student.pt", change(state))
    with pytest.raises(ValueError, match=said) as error:
        load_student(PAPER, path)
    assert str(path) in str(error.value) and len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 900


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_broken_files(tmp_path, text):
    trace, path = tmp_path / "trace", tmp_path / "student.pt"
    torch.save({"state_dict": Harmful(trace)}, path)
    with pytest.raises(ValueError, match="is not a readable checkpoint .UnpicklingError."):
        load_student(PAPER, path)
    path.write_bytes(pickle.dumps(Harmful(trace), 2))
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        load_student(PAPER, path)
    assert not trace.exists()
    write(path, {name: tensor[:2] for name, tensor in text.items() if tensor.ndim})
    whole = path.read_bytes()
    for keep in (0, 1000, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError, match="is not a readable checkpoint"):
            load_student(PAPER, path)
    write(path, [torch.zeros(1)])
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        load_student(PAPER, path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="get a public model with `dark_fetch`"):
        load_student(PAPER, path)


@pytest.mark.full
def test_released_teacher(tmp_path):
    "427 million parameters, written and read once: 1.7 GB on the disk."
    torch.manual_seed(2)
    original = build(PAPER.teacher, PAPER, seed=2).eval()
    # The paper cuts 427.6 off.
    assert parameters(original) // 10**6 == 427 and round(parameters(original.visual) / 1e6) == 304
    state = {f"module.{name}": tensor for name, tensor in original.state_dict().items()}
    path = write(tmp_path / "teacher.pt", state)
    teacher = load_teacher(PAPER, path)
    with torch.no_grad():
        picture, tokens = torch.randn(1, 3, 224, 224), torch.randint(1, 49407, (1, 117))
        assert torch.equal(teacher.encode_image(picture), original.encode_image(picture))
        assert torch.equal(teacher.encode_text(tokens), original.encode_text(tokens))
    with pytest.raises(ValueError, match="does not fit CustomTextCLIP: .* tensors are missing"):
        load_student(PAPER, path)
    path.unlink()
