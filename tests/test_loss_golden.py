"""Golden values of the loss, computed with numpy in float64 by code that shares nothing with `dark`.

`python tests/test_loss_golden.py` writes tests/golden/dark_loss.json anew.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden" / "dark_loss.json"

# (diag, off_diag) of the paper's recipes at the start and at the end of training; smoothing; tau
SETTINGS = {
    "no-kd": (0.0, 0.0, 0.0, 5.0),
    "static-kd": (1.0, 1.0, 0.0, 5.0),
    "positive-decay-end": (0.1, 0.1, 0.0, 5.0),
    "coupled-b1-e-0.8-end": (-0.8, -0.8, 0.0, 5.0),
    "dark-b2-e-0.8-start": (1.0, 2.0, 0.0, 5.0),
    "dark-b2-e-0.8-end": (1.0, -0.8, 0.0, 5.0),
    "zero-off": (1.0, 0.0, 0.0, 5.0),
    "confidence-penalty-start": (1.0, 1.0, 0.1, 5.0),
    "confidence-penalty-end": (0.1, 0.1, 0.1, 5.0),
    "sharp-teacher": (1.0, -0.8, 0.0, 1.0),
}


def reference_direction(student, teacher, smoothing):
    "Sums of contrastive, diag and off_diag over rows, entry by entry; no temperature, no mean."
    contrastive, diag, off_diag = [], [], []
    for i in range(len(student)):
        norm = math.log(math.fsum(math.exp(v - student[i].max()) for v in student[i])) + student[i].max()
        teacher_sum = math.fsum(math.exp(v - teacher[i].max()) for v in teacher[i])
        for j in range(len(student)):
            log_q = student[i, j] - norm
            p = (1 - smoothing) * math.exp(teacher[i, j] - teacher[i].max()) / teacher_sum + smoothing / len(student)
            if i == j:
                contrastive.append(-log_q)
            (diag if i == j else off_diag).append(-p * log_q)
    return [math.fsum(values) / len(student) for values in (contrastive, diag, off_diag)]


def reference_terms(image, text, scale, teacher, smoothing, tau):
    "contrastive, diag, off_diag of a batch."
    student_logits = scale * image @ text.T
    teacher_logits = teacher["scale"] * teacher["image"] @ teacher["text"].T / tau
    rows = reference_direction(student_logits, teacher_logits, smoothing)
    columns = reference_direction(student_logits.T, teacher_logits.T, smoothing)
    return [(a + b) / 2 for a, b in zip(rows, columns, strict=True)]


def logit_gradient(student, teacher, diag, off_diag, smoothing):
    "Closed form for one direction, w the weight of each log-softmax: (row sum of w * softmax - w) / N."
    n = len(student)
    q = np.exp(student - student.max(1, keepdims=True))
    q /= q.sum(1, keepdims=True)
    p = np.exp(teacher - teacher.max(1, keepdims=True))
    p = (1 - smoothing) * p / p.sum(1, keepdims=True) + smoothing / n
    w = np.where(np.eye(n, dtype=bool), 1 + diag * p, off_diag * p)
    return (w.sum(1, keepdims=True) * q - w) / n


def reference_gradients(image, text, scale, teacher, diag, off_diag, smoothing, tau):
    "Gradients on image, text and scale, by the chain rule through S = scale * image @ text.T."
    student_logits = scale * image @ text.T
    teacher_logits = teacher["scale"] * teacher["image"] @ teacher["text"].T / tau
    rows = logit_gradient(student_logits, teacher_logits, diag, off_diag, smoothing)
    columns = logit_gradient(student_logits.T, teacher_logits.T, diag, off_diag, smoothing)
    g = (rows + columns.T) / 2
    return scale * g @ text, scale * g.T @ image, float((g * (image @ text.T)).sum())


def unit_rows(random, n, width):
    rows = random.standard_normal((n, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_batch(n, seed):
    "Student (width 4) and teacher (width 6) embeddings of n pairs."
    random = np.random.default_rng(seed)
    student = {"image": unit_rows(random, n, 4), "text": unit_rows(random, n, 4), "scale": 14.3}
    teacher = {"image": unit_rows(random, n, 6), "text": unit_rows(random, n, 6), "scale": 60.0}
    return student, teacher


def golden_case(student, teacher, diag, off_diag, smoothing, tau):
    "Everything that the library must reproduce for one setting."
    terms = reference_terms(**student, teacher=teacher, smoothing=smoothing, tau=tau)
    image, text, scale = reference_gradients(
        **student, teacher=teacher, diag=diag, off_diag=off_diag, smoothing=smoothing, tau=tau
    )
    return {
        "loss": terms[0] + diag * terms[1] + off_diag * terms[2],
        "contrastive": terms[0], "diag": terms[1], "off_diag": terms[2],
        "gradient": {"image": image.tolist(), "text": text.tolist(), "scale": scale},
    }


def make_golden():
    "The content of the golden file."
    student, teacher = random_batch(5, seed=20)
    as_lists = [{k: v.tolist() if k != "scale" else v for k, v in e.items()} for e in (student, teacher)]
    cases = {name: golden_case(student, teacher, *values) for name, values in SETTINGS.items()}
    return {"student": as_lists[0], "teacher": as_lists[1], "cases": cases}


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


def as_embeddings(values, dtype):
    from dark.loss import Embeddings

    return Embeddings(*(_leaf(values[name], dtype) for name in ("image", "text", "scale")))


def _leaf(value, dtype):
    import torch

    return torch.tensor(value, dtype=dtype, requires_grad=True)


def library_case(student, teacher, setting, chunk, dtype):
    "What dark_loss says, in the shape of a golden case."
    import torch

    from dark.loss import dark_loss

    diag, off_diag, smoothing, tau = setting
    leaves = as_embeddings(student, dtype)
    out = dark_loss(leaves, as_embeddings(teacher, dtype), diag=diag, off_diag=off_diag, smoothing=smoothing, tau=tau,
                    chunk=chunk)
    gradients = torch.autograd.grad(out["loss"], leaves)
    return {name: value.item() for name, value in out.items()} | {
        "gradient": dict(zip(("image", "text", "scale"), (g.tolist() for g in gradients), strict=True))
    }


def assert_same_case(found, expected, tolerance):
    for name in ("loss", "contrastive", "diag", "off_diag"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance, err_msg=name)
    for name in ("image", "text", "scale"):
        np.testing.assert_allclose(
            found["gradient"][name], expected["gradient"][name], rtol=0, atol=tolerance, err_msg=f"gradient on {name}"
        )


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("name", SETTINGS)
def test_float64_agrees_with_golden_values(golden, name, chunk):
    import torch

    found = library_case(golden["student"], golden["teacher"], SETTINGS[name], chunk, torch.float64)
    assert_same_case(found, golden["cases"][name], 1e-9)


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("name", SETTINGS)
def test_float32_agrees_with_golden_values(golden, name, chunk):
    import torch

    found = library_case(golden["student"], golden["teacher"], SETTINGS[name], chunk, torch.float32)
    assert_same_case(found, golden["cases"][name], 2e-5)


@pytest.mark.parametrize("chunk", [None, 16])
def test_larger_batch_agrees_with_reference(chunk):
    import torch

    student, teacher = random_batch(50, seed=21)
    setting = SETTINGS["dark-b2-e-0.8-end"]
    expected = golden_case(student, teacher, *setting)
    assert_same_case(library_case(student, teacher, setting, chunk, torch.float64), expected, 1e-9)


def test_golden_file_is_what_this_script_writes(golden):
    fresh = make_golden()
    assert golden.keys() == fresh.keys() and golden["cases"].keys() == fresh["cases"].keys() == SETTINGS.keys()
    for name in ("image", "text", "scale"):
        np.testing.assert_allclose(golden["student"][name], fresh["student"][name], rtol=0, atol=1e-12)
        np.testing.assert_allclose(golden["teacher"][name], fresh["teacher"][name], rtol=0, atol=1e-12)
    for name in SETTINGS:
        assert_same_case(golden["cases"][name], fresh["cases"][name], 1e-12)


def test_reference_gradients_are_the_slopes_of_the_reference_loss():
    "The closed form above, against central differences of the entry-by-entry loss."
    student, teacher = random_batch(5, seed=20)
    diag, off_diag, smoothing, tau = 1.0, -0.8, 0.1, 5.0

    def loss(image, text, scale):
        terms = reference_terms(image, text, scale, teacher, smoothing, tau)
        return terms[0] + diag * terms[1] + off_diag * terms[2]

    expected = reference_gradients(
        **student, teacher=teacher, diag=diag, off_diag=off_diag, smoothing=smoothing, tau=tau
    )
    for name, gradient in zip(("image", "text", "scale"), expected, strict=True):
        gradient, step = np.atleast_1d(gradient), 1e-6
        for index in np.ndindex(gradient.shape):
            moved = []
            for sign in (1, -1):
                value = np.atleast_1d(student[name]).astype(float)
                value[index] += sign * step
                moved.append(loss(**student | {name: value if name != "scale" else value[0]}))
            assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(gradient[index], abs=1e-7)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(make_golden(), indent=1) + "\n")
