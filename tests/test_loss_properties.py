"""What must hold of the loss for every batch, searched by hypothesis."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from dark.loss import Embeddings, dark_loss, kd_terms

sizes, seeds, weights = st.integers(1, 9), st.integers(0, 2**31 - 1), st.floats(-2, 8)
quick = settings(max_examples=40, deadline=None, derandomize=True)


def pairs(n, width, seed, scale=20.0):
    generator = torch.Generator().manual_seed(seed)
    image, text = (normalize(torch.randn(n, width, generator=generator, dtype=torch.float64), dim=1) for _ in range(2))
    scale = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    return Embeddings(image.requires_grad_(), text.requires_grad_(), scale)


def logits(n, m, seed):
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(2, n, m, generator=generator, dtype=torch.float64).unbind()[0]


def near(found, expected, tolerance=1e-9):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def gradients(student, teacher, **keywords):
    return torch.autograd.grad(dark_loss(student, teacher, **keywords)["loss"], student)


@quick
@given(sizes, st.integers(0, 6), seeds)
def test_kd_terms_equal_a_loop(n, extra, seed):
    m = n + extra
    student, teacher = logits(n, m, seed), logits(n, m, seed + 1)
    target = torch.randint(0, m, (n,), generator=torch.Generator().manual_seed(seed))
    p, log_q = teacher.softmax(1), student.softmax(1).log()
    expected_diag = -sum(p[i, target[i]] * log_q[i, target[i]] for i in range(n)) / n
    expected_off = -sum(p[i, j] * log_q[i, j] for i in range(n) for j in range(m) if j != target[i]) / n
    diag, off_diag = kd_terms(student, teacher, target)
    near(diag, expected_diag)
    near(off_diag, torch.as_tensor(expected_off, dtype=torch.float64))


@quick
@given(sizes, seeds)
def test_terms_ignore_a_shift_of_each_row(n, seed):
    student, teacher = logits(n, n, seed), logits(n, n, seed + 1)
    shift = 10 * logits(n, 1, seed + 2)
    near(kd_terms(student + shift, teacher - shift), kd_terms(student, teacher))


@quick
@given(sizes, seeds, st.floats(0, 0.99))
def test_terms_are_not_negative_and_sum_to_the_cross_entropy(n, seed, smoothing):
    student, teacher = logits(n, n, seed), logits(n, n, seed + 1)
    diag, off_diag = kd_terms(student, teacher, smoothing=smoothing)
    assert diag >= 0 and off_diag >= -1e-12
    softened = (1 - smoothing) * teacher.softmax(1) + smoothing / n
    near(diag + off_diag, torch.nn.functional.cross_entropy(student, softened))


@quick
@given(sizes, seeds, weights, weights)
def test_loss_is_linear_in_the_weights(n, seed, diag, off_diag):
    student, teacher = pairs(n, 4, seed), pairs(n, 5, seed + 1)
    out = dark_loss(student, teacher, diag=diag, off_diag=off_diag)
    near(out["loss"].detach(), out["contrastive"] + diag * out["diag"] + off_diag * out["off_diag"])
    unweighted = dark_loss(student, teacher)
    near([out[name] for name in ("contrastive", "diag", "off_diag")],
         [unweighted[name] for name in ("contrastive", "diag", "off_diag")])


@quick
@given(sizes, seeds, st.floats(0.01, 8))
def test_negative_weight_mirrors_the_gradient(n, seed, weight):
    student, teacher = pairs(n, 4, seed), pairs(n, 5, seed + 1)
    towards, away, neither = (gradients(student, teacher, off_diag=w) for w in (weight, -weight, 0.0))
    for a, b, c in zip(towards, away, neither, strict=True):
        near(a - c, c - b)


@quick
@given(sizes, seeds, weights)
def test_swapping_image_and_text_changes_nothing(n, seed, off_diag):
    student, teacher = pairs(n, 4, seed), pairs(n, 5, seed + 1)
    swapped = [Embeddings(e.text, e.image, e.scale) for e in (student, teacher)]
    near(dark_loss(*swapped, off_diag=off_diag)["loss"], dark_loss(student, teacher, off_diag=off_diag)["loss"])


@quick
@given(sizes, seeds, weights)
def test_order_of_the_batch_changes_nothing(n, seed, off_diag):
    student, teacher = pairs(n, 4, seed), pairs(n, 5, seed + 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    shuffled = [e._replace(image=e.image[order], text=e.text[order]) for e in (student, teacher)]
    near(dark_loss(*shuffled, off_diag=off_diag)["loss"], dark_loss(student, teacher, off_diag=off_diag)["loss"])


@quick
@given(sizes, seeds, weights, weights, st.integers(1, 12), st.sampled_from([0.0, 0.1]))
def test_blockwise_form_equals_the_plain_form(n, seed, diag, off_diag, chunk, smoothing):
    student, teacher = pairs(n, 4, seed), pairs(n, 5, seed + 1)
    keywords = {"diag": diag, "off_diag": off_diag, "smoothing": smoothing}
    near(list(dark_loss(student, teacher, chunk=chunk, **keywords).values()),
         list(dark_loss(student, teacher, **keywords).values()))
    near(gradients(student, teacher, chunk=chunk, **keywords), gradients(student, teacher, **keywords))


@quick
@given(sizes, seeds, weights)
def test_teacher_gets_no_gradient(n, seed, off_diag):
    teacher = pairs(n, 5, seed + 1)
    for chunk in (None, 2):
        dark_loss(pairs(n, 4, seed), teacher, off_diag=off_diag, chunk=chunk)["loss"].backward()
    assert [value.grad for value in teacher] == [None, None, None]


@quick
@given(sizes, seeds, st.floats(-2, 0))
def test_unit_norm_and_clamped_scale_bound_the_loss(n, seed, off_diag):
    student, teacher = pairs(n, 4, seed, scale=100.0), pairs(n, 5, seed + 1)
    lowest = off_diag * (2 * 100 + torch.tensor(float(n)).log())
    assert dark_loss(student, teacher, off_diag=off_diag)["loss"] >= lowest - 1e-9
