"What holds for every objective, whoever adds one; and the values of each, computed again without torch."

import inspect
import os
from datetime import timedelta
from itertools import count

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch.nn.functional import normalize

import dark.regimes  # noqa: F401, which adds recipes of other weights
from dark.core import work
from dark.distil.loop import compare_pairs
from dark.loss import Embeddings
from dark.methods import all_objectives, get_objective, objectives
from dark.recipe import get_recipe, recipes
from dark.schedule import linear

RANKS, PAIRS = 2, 4
ON_PAIRS = [r.name for r in recipes.values() if r.objective in all_objectives("pairs") and r.name != "soft-only"]
ON_ROWS = [r.name for r in recipes.values() if r.objective in all_objectives("rows")]
BY_PLACE = ("permuted",)  # what is drawn for a place in the batch moves with its order
FIXED_SCALE = ("affinity",)  # has a scale of its own, and no contrastive loss: the student's is not trained
EVIDENCE = {"meaning"}  # of the batch, asked for beside the settings


def pairs(seed, scale, n=RANKS * PAIRS):
    "n pairs of a made-up model; its three tensors want gradients."
    rows = torch.randn(2, n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    image, text = normalize(rows, dim=2)
    return Embeddings(*(t.clone().requires_grad_() for t in (image, text, torch.tensor(scale, dtype=torch.float64))))


def rows(seed):
    return torch.randn(5, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


MEANING = torch.tensor([[1, 0], [2, 1], [0, 0], [2, 2], [1, 0], [2, 1], [2, 0], [0, 0]])  # across the two ranks


def evidence(name, meaning):
    "What a recipe's objective asks beside the settings."
    wanted = inspect.signature(get_objective(get_recipe(name).objective, "pairs")).parameters
    return {"meaning": meaning} if "meaning" in wanted else {}


def ask(name, student, teacher, progress=0.9, meaning=MEANING):
    recipe = get_recipe(name)
    taught, known = teacher if recipe.needs_teacher else None, evidence(name, meaning)
    return get_objective(recipe.objective, "pairs")(student, taught, progress, **recipe.settings, **known)


def ask_rows(name, logits, teacher, targets, progress=0.9):
    recipe = get_recipe(name)
    return get_objective(recipe.objective, "rows")(logits, teacher, targets, progress, **recipe.settings)


def check_terms(terms):
    "A loss with a gradient, terms without, weights that are numbers."
    assert {"loss", "contrastive"} <= set(terms)
    for name, value in terms.items():
        assert np.isfinite(float(torch.as_tensor(value).detach())), name
        assert isinstance(value, float) if name.startswith("w_") else value.ndim == 0
        assert name == "loss" or name.startswith("w_") or not value.requires_grad


def test_every_objective_has_a_recipe_that_fits_it():
    assert {name for name, _ in objectives} == {recipe.objective for recipe in recipes.values()}
    for (name, _), function in objectives.items():
        asked = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY} - EVIDENCE
        for recipe in recipes.values():
            assert recipe.objective != name or set(recipe.settings) == asked, recipe


@pytest.mark.parametrize("name", ON_PAIRS)
def test_finite_and_only_the_student_learns(name):
    student, teacher = pairs(0, 14.0), pairs(1, 20.0)
    terms = ask(name, student, teacher)
    check_terms(terms)
    terms["loss"].backward()
    learns = [True, True, get_recipe(name).objective not in FIXED_SCALE]  # image, text, scale
    assert all(part.grad.isfinite().all() for part in student)
    assert [part.grad.abs().sum().item() > 0 for part in student] == learns
    assert all(part.grad is None for part in teacher)


@pytest.mark.parametrize("name", ON_ROWS)
def test_finite_and_only_the_student_learns_from_rows(name):
    logits, teacher = rows(0), rows(1)
    terms = ask_rows(name, logits, teacher, torch.arange(5))
    check_terms(terms)
    terms["loss"].backward()
    assert logits.grad.isfinite().all() and logits.grad.abs().sum() > 0 and teacher.grad is None


@pytest.mark.parametrize("name", ON_PAIRS)
def test_slips_are_refused(name):
    "A step where progress belongs, and what is no embeddings, in one sentence each."
    student, teacher = pairs(0, 14.0), pairs(1, 20.0)
    for progress in (500, -0.1, float("nan")):
        with pytest.raises(ValueError, match="progress"):
            ask(name, student, teacher, progress)
    for slip in (tuple(student), student._replace(scale=14.0), student._replace(image=student.image.detach().numpy())):
        with pytest.raises(TypeError, match="student.* is of type (tuple|float|ndarray).*: write"):
            ask(name, slip, teacher)
    objective, settings = get_objective(get_recipe(name).objective, "pairs"), get_recipe(name).settings
    for weight in {"diag", "off_diag", "same", "different"} & set(settings):
        changed = settings | {weight: linear(2, -0.8)} | evidence(name, MEANING)
        with pytest.raises(TypeError, match=f"{weight} is a function: write the two ends of its line"):
            objective(student, teacher, 0.9, **changed)


@pytest.mark.parametrize("name", ON_ROWS)
def test_slips_are_refused_of_rows(name):
    targets = torch.arange(5)
    with pytest.raises(ValueError, match="progress is 500: give step / total steps"):
        ask_rows(name, rows(0), rows(1), targets, 500)
    with pytest.raises(TypeError, match="rows is of type ndarray, not a tensor: write torch.as_tensor"):
        ask_rows(name, rows(0), rows(1).detach().numpy(), targets)


@pytest.mark.parametrize("name", [name for name in ON_PAIRS if get_recipe(name).objective not in BY_PLACE])
def test_order_of_the_batch_changes_nothing(name):
    order = torch.randperm(RANKS * PAIRS, generator=torch.Generator().manual_seed(2))
    both = pairs(0, 14.0), pairs(1, 20.0)
    mixed = [e._replace(image=e.image[order], text=e.text[order]) for e in both]
    found = ask(name, *mixed, meaning=MEANING[order])
    torch.testing.assert_close(found, ask(name, *both), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ON_ROWS)
def test_order_of_the_rows_changes_nothing(name):
    order, logits, teacher = torch.tensor([3, 0, 4, 1, 2]), rows(0), rows(1)
    mixed = ask_rows(name, logits[order], teacher[order], order)
    torch.testing.assert_close(mixed, ask_rows(name, logits, teacher, torch.arange(5)), rtol=1e-10, atol=1e-10)


class Here:
    "A run as far as `compare_pairs` asks."

    def __init__(self, name):
        self.recipe, self.progress = get_recipe(name), 0.9


def gatherable():
    "What several processes can train: what captions mean is asked for in one alone."
    return [name for name in ON_PAIRS if not evidence(name, MEANING)]


def gathered(name, own):
    "Loss, and gradients of the student, of the pairs that one process holds."
    student, teacher = pairs(0, 14.0), pairs(1, 100.0)
    halves = [e._replace(image=e.image[own], text=e.text[own]) for e in (student, teacher)]
    if not get_recipe(name).needs_teacher:
        halves[1] = None
    loss = compare_pairs(Here(name), *halves, 5.0)["loss"]
    loss.backward()
    return [loss.detach(), student.image.grad, student.text.grad]


def one_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS,
                            timeout=timedelta(seconds=30))
    own = slice(rank * PAIRS, (rank + 1) * PAIRS)
    torch.save({name: gathered(name, own) for name in gatherable()}, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # the interpreter's end must not find gloo's threads running


def test_halves_gathered_equal_the_whole(tmp_path):
    "Each rank gets the sum of all ranks' gradients on its own rows, which data-parallel training averages."
    torch.multiprocessing.spawn(one_rank, (tmp_path,), nprocs=RANKS)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    for name in gatherable():
        loss, image, text = gathered(name, slice(None))
        for part in (half[name][0] for half in found):
            torch.testing.assert_close(part, loss, rtol=0, atol=1e-10)
        for at, whole in ((1, image), (2, text)):
            torch.testing.assert_close(sum(half[name][at] for half in found) / RANKS, whole, rtol=0, atol=1e-9)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def numpy_pairs(e):
    return [part.detach().numpy() for part in e]


def cross(image, text, scale):
    "Contrastive loss, mean of both directions."
    logits = scale * image @ text.T
    return -(np.diag(log_softmax(logits)).mean() + np.diag(log_softmax(logits.T)).mean()) / 2


def smooth_l1(a, b):
    gap = np.abs(a - b)
    return np.where(gap < 1, gap**2 / 2, gap - 0.5).mean()


def far(rows):
    "Distances over their mean off the diagonal, pair by pair."
    n = len(rows)
    found = np.array([[np.sqrt(((rows[i] - rows[j]) ** 2).sum()) for j in range(n)] for i in range(n)])
    return found / (found.sum() / (n * (n - 1)))


def turned(rows):
    "Cosine at i between j and k, triplet by triplet; 0 where two of a triplet's ways have no length."
    n, found = len(rows), np.zeros((len(rows),) * 3)
    for i in range(n):
        for j in set(range(n)) - {i}:
            for k in set(range(n)) - {i}:
                one, two = rows[j] - rows[i], rows[k] - rows[i]
                found[i, j, k] = one @ two / np.sqrt((one @ one) * (two @ two))
    return found


def near(found, expected):
    assert list(found) == list(expected)
    values = [float(torch.as_tensor(value).detach()) for value in found.values()]
    np.testing.assert_allclose(values, list(expected.values()), rtol=1e-7)


def test_golden_values_of_relational():
    student, teacher = pairs(0, 14.0), pairs(1, 20.0)
    (image, text, scale), taught = numpy_pairs(student), numpy_pairs(teacher)
    distance, angle = ((smooth_l1(f(image), f(taught[0])) + smooth_l1(f(text), f(taught[1]))) / 2
                       for f in (far, turned))
    contrastive = cross(image, text, scale)
    near(ask("rkd", student, teacher), {"loss": contrastive + 25 * distance + 50 * angle, "contrastive": contrastive,
                                        "distance": distance, "angle": angle})


def test_golden_values_of_feature_kd():
    student, teacher = pairs(0, 14.0), pairs(1, 20.0)
    (image, text, scale), taught = numpy_pairs(student), numpy_pairs(teacher)
    feature = ((image - taught[0]) ** 2).mean() + ((text - taught[1]) ** 2).mean()
    contrastive = cross(image, text, scale)
    near(ask("feature-kd", student, teacher), {"loss": contrastive + 2000 * feature, "contrastive": contrastive,
                                               "feature": feature})


def softmax(logits):
    return np.exp(log_softmax(logits))


def told():
    "Student and teacher, the student's contrastive loss, and (student's, teacher's) logits of both directions."
    student, teacher = pairs(0, 14.0), pairs(1, 20.0)
    own, taught = (s * i @ t.T for i, t, s in map(numpy_pairs, (student, teacher)))
    return student, teacher, cross(*numpy_pairs(student)), [(own, taught), (own.T, taught.T)]


def without(row, at):
    return np.array([value for place, value in enumerate(row) if place != at])


def kl(p, q):
    return sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q))


def test_golden_values_of_icl():
    student, teacher, contrastive, _ = told()
    (image, text, scale), taught = numpy_pairs(student), numpy_pairs(teacher)
    found = [-np.log(np.exp(scale * a[i] @ b[i]) / sum(np.exp(scale * a[i] @ b[j]) for j in range(len(b))))
             for a, b in ((image, taught[1]), (text, taught[0])) for i in range(len(a))]
    near(ask("icl", student, teacher), {"loss": contrastive + np.mean(found), "contrastive": contrastive,
                                        "interactive": np.mean(found)})


def test_golden_values_of_affinity():
    student, teacher, contrastive, ways = told()
    found = [-(softmax(50 / 20 * taught) * log_softmax(50 / 14 * own)).sum(1) for own, taught in ways]
    near(ask("affinity", student, teacher), {"loss": np.mean(found), "contrastive": contrastive,
                                             "affinity": np.mean(found)})


def test_golden_values_of_dkd():
    "At progress 0.05, when the weights have risen to 0.6 of theirs."
    student, teacher, contrastive, ways = told()
    target, others = [], []
    for own, taught in ways:
        for i, (q, p) in enumerate(zip(softmax(own / 4), softmax(taught))):
            target.append(16 * kl([p[i], 1 - p[i]], [q[i], 1 - q[i]]))
            others.append(16 * kl(without(p, i) / (1 - p[i]), without(q, i) / (1 - q[i])))
    target, others = np.mean(target), np.mean(others)
    near(ask("dkd", student, teacher, 0.05), {
        "loss": contrastive + 0.6 * target + 4.8 * others, "contrastive": contrastive, "target": target,
        "others": others, "w_target": 0.6, "w_others": 4.8})


def test_golden_values_of_nkd():
    student, teacher, contrastive, ways = told()
    target, others = [], []
    for own, taught in ways:
        for i, (q, p) in enumerate(zip(softmax(own), softmax(taught))):
            target.append(-p[i] * np.log(q[i]))
            others.append(-(without(p, i) / (1 - p[i])) @ np.log(without(q, i) / (1 - q[i])))
    target, others = np.mean(target), np.mean(others)
    near(ask("nkd", student, teacher), {"loss": contrastive + target + 1.5 * others, "contrastive": contrastive,
                                        "target": target, "others": others})


def test_golden_values_of_dist():
    student, teacher, contrastive, ways = told()
    ways = [(softmax(own), softmax(taught)) for own, taught in ways]
    rows, columns = (1 - np.mean([np.corrcoef(a, b)[0, 1] for pair in chosen for a, b in zip(*pair)])
                     for chosen in (ways, [(own.T, taught.T) for own, taught in ways]))
    near(ask("dist", student, teacher), {"loss": contrastive + rows + columns, "contrastive": contrastive,
                                         "rows": rows, "columns": columns})


def test_golden_values_of_logit_standardised():
    student, teacher, contrastive, ways = told()
    found = []
    for way in ways:
        q, p = (softmax(np.array([(row - row.mean()) / (row.std(ddof=1) + 1e-7) / 2 for row in z])) for z in way)
        found += [4 * kl(*rows) for rows in zip(p, q)]
    near(ask("logit-standardised", student, teacher), {
        "loss": 0.1 * contrastive + 9 * np.mean(found), "contrastive": contrastive, "standardised": np.mean(found)})


def test_golden_values_of_crd():
    "Term by term, once with each model as the anchor; the two are added, and the two towers averaged."
    student, teacher, contrastive, _ = told()
    found = []
    for own, taught in list(zip(numpy_pairs(student), numpy_pairs(teacher)))[:2]:
        n = len(own)
        raw = np.array([[np.exp(own[i] @ taught[j] / 0.07) for j in range(n)] for i in range(n)])
        h, noise = raw / (n * raw.mean()), (n - 1) / n
        for way in (h, h.T):
            found.append(-sum(np.log((way[i, j] if i == j else noise) / (way[i, j] + noise))
                              for i in range(n) for j in range(n)) / n)
    term = sum(found) / 2
    near(ask("crd", student, teacher), {"loss": contrastive + 0.8 * term, "contrastive": contrastive,
                                        "representation": term})


def test_golden_values_of_siglip_kd():
    student, teacher, contrastive, ways = told()
    u, t = (1 / (1 + np.exp(10 - logits)) for logits in ways[0])
    term = -(t * np.log(u) + (1 - t) * np.log(1 - u)).sum() / len(u)
    near(ask("siglip-kd", student, teacher), {"loss": contrastive + term, "contrastive": contrastive,
                                              "pairwise": term})


def test_golden_values_of_the_confidence_penalty():
    student, teacher, contrastive, ways = told()
    entropy = np.mean([-(q * np.log(q)).sum() for own, _ in ways for q in softmax(own)])
    near(ask("confidence-penalty-entropy", student, teacher), {
        "loss": contrastive - 0.1 * entropy, "contrastive": contrastive, "entropy": entropy})


def test_golden_values_of_barlow():
    student, teacher, contrastive, _ = told()
    agreement, redundancy = [], []
    for towers in list(zip(numpy_pairs(student), numpy_pairs(teacher)))[:2]:
        own, taught = ((rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5) for rows in towers)
        c = np.array([[np.mean(own[:, d] * taught[:, e]) for e in range(6)] for d in range(6)])
        agreement.append(sum((1 - c[d, d]) ** 2 for d in range(6)))
        redundancy.append(sum(c[d, e] ** 2 for d in range(6) for e in range(6) if d != e))
    agreement, redundancy = np.mean(agreement), np.mean(redundancy)
    near(ask("barlow", student, teacher), {"loss": contrastive + agreement + 0.0051 * redundancy,
                                           "contrastive": contrastive, "agreement": agreement,
                                           "redundancy": redundancy})


@pytest.mark.parametrize("form", ("pairs", "rows"))
def test_golden_values_of_two_weights(form):
    recipe, on, off = get_recipe("dark-b2-e-0.8"), 1.0, 2 - 2.8 * 0.9
    if form == "pairs":
        student, teacher = pairs(0, 14.0), pairs(1, 20.0)
        found = ask(recipe.name, student, teacher)
        own, taught = (s * i @ t.T for i, t, s in map(numpy_pairs, (student, teacher)))
        directions = [(own, taught, np.arange(len(own))), (own.T, taught.T, np.arange(len(own)))]
    else:
        logits, teacher = rows(0), rows(1)
        found = ask_rows(recipe.name, logits, teacher, torch.tensor([8, 0, 3, 3, 1]))
        directions = [(logits.detach().numpy(), teacher.detach().numpy(), np.array([8, 0, 3, 3, 1]))]
    terms = []
    for own, taught, match in directions:
        log_q, p, hit = log_softmax(own), np.exp(log_softmax(taught)), (np.arange(len(own)), match)
        diag = -(p[hit] * log_q[hit]).mean()
        terms.append([-log_q[hit].mean(), diag, -(p * log_q).sum(1).mean() - diag])
    contrastive, diag, off_diag = np.mean(terms, axis=0)
    near(found, {"loss": contrastive + on * diag + off * off_diag, "contrastive": contrastive, "diag": diag,
                 "off_diag": off_diag, "w_diag": on, "w_off": off})


def dark_parts(change):
    "Contrastive, diag and off_diag of pairs whose teacher's probabilities are changed, mean of both directions."
    student, teacher = (s * i @ t.T for i, t, s in (numpy_pairs(pairs(0, 14.0)), numpy_pairs(pairs(1, 20.0))))
    terms = []
    for own, taught in ((student, teacher), (student.T, teacher.T)):
        log_q, p, hit = log_softmax(own), change(np.exp(log_softmax(taught))), np.diag_indices(len(own))
        off = p.copy()
        off[hit] = 0
        terms.append([-log_q[hit].mean(), -(p[hit] * log_q[hit]).mean(), -(off * log_q).sum() / len(own)])
    return np.mean(terms, axis=0)


def expected_parts(change, on, off):
    contrastive, diag, off_diag = dark_parts(change)
    return {"loss": contrastive + on * diag + off * off_diag, "contrastive": contrastive, "diag": diag,
            "off_diag": off_diag, "w_diag": on, "w_off": off}


def related(one, other):
    "Of two captions, each a plane and a sub-plane."
    if one[0] == 0 or one[0] != other[0]:
        return 0.0
    return 1.0 if one[1] == other[1] else 0.5


@pytest.mark.parametrize("progress, off", ((0.3, 2 - 2.8 * 0.3), (0.9, 0.0)))
def test_golden_values_of_clipped(progress, off):
    found = ask("dark-clipped", pairs(0, 14.0), pairs(1, 20.0), progress)
    near(found, expected_parts(lambda p: p, 1.0, off))


def shuffled(progress):
    "Rows with their other values in one order, drawn for the step and the comparison; the match stays."
    seeds = count(round(progress * 2**40))

    def change(p):
        order = torch.randperm(len(p) - 1, generator=torch.Generator().manual_seed(next(seeds))).numpy()
        moved = p.copy()
        for i, row in enumerate(p):
            others = np.delete(np.arange(len(p)), i)
            moved[i, others] = row[others[order]]
        return moved

    return change


@pytest.mark.parametrize("name, progress, off, moved", (
    ("static-permuted", 0.9, 1.0, True), ("dark-permuted", 0.3, 2 - 2.8 * 0.3, True),
    ("dark-permuted", 0.9, 2 - 2.8 * 0.9, True), ("dark-repel-permuted", 0.3, 2 - 2.8 * 0.3, False),
    ("dark-repel-permuted", 0.9, 2 - 2.8 * 0.9, True)))
def test_golden_values_of_permuted(name, progress, off, moved):
    found = ask(name, pairs(0, 14.0), pairs(1, 20.0), progress)
    near(found, expected_parts(shuffled(progress) if moved else lambda p: p, 1.0, off))
    assert (abs(found["off_diag"].item() - dark_parts(lambda p: p)[2]) > 1e-3) == moved


def test_golden_values_of_uniform():
    def spread(p):
        return np.array([[row[i] if i == j else (1 - row[i]) / (len(p) - 1) for j in range(len(p))]
                         for i, row in enumerate(p)])
    found = ask("dark-uniform", pairs(0, 14.0), pairs(1, 20.0))
    near(found, expected_parts(spread, 1.0, 2 - 2.8 * 0.9))


@pytest.mark.parametrize("progress", (0.3, 0.9))
def test_golden_values_of_bounded(progress):
    student, teacher = pairs(0, 14.0), pairs(1, 20.0)
    own, taught = (s * i @ t.T for i, t, s in map(numpy_pairs, (student, teacher)))
    repelled = 0.0
    for q, p in ((np.exp(log_softmax(a)), np.exp(log_softmax(b))) for a, b in ((own, taught), (own.T, taught.T))):
        repelled += sum(-p[i, j] * np.log(sum(q[i, k] for k in range(len(q)) if k != j)) / len(q) / 2
                        for i in range(len(q)) for j in range(len(q)) if j != i)
    expected, off = expected_parts(lambda p: p, 1.0, 2 - 2.8 * progress), 2 - 2.8 * progress
    if off < 0:
        expected["loss"] = expected["contrastive"] + expected["diag"] + abs(off) * repelled
    near(ask("dark-bounded", student, teacher, progress), expected | {"repelled": repelled})


def test_golden_values_of_class_prior():
    meaning = MEANING.tolist()

    def share(p):
        rows = []
        for i, row in enumerate(p):
            kin = [0.0 if j == i else related(meaning[i], meaning[j]) for j in range(len(p))]
            kin = kin if sum(kin) else [float(j != i) for j in range(len(p))]
            rows.append([row[i] if j == i else (1 - row[i]) * kin[j] / sum(kin) for j in range(len(p))])
        return np.array(rows)

    near(ask("class-prior", pairs(0, 14.0), pairs(1, 20.0)), expected_parts(share, 1.0, 1.0))


@pytest.mark.parametrize("name, same, different", (("dark-cross", 1.0, 2 - 2.8 * 0.9),
                                                   ("dark-same", 2 - 2.8 * 0.9, 2 - 2 * 0.9)))
def test_golden_values_of_by_meaning(name, same, different):
    words, size = MEANING.tolist(), len(MEANING)
    alike = np.array([[i != j and related(words[i], words[j]) == 1 for j in range(size)] for i in range(size)])
    assert alike.sum() == 4  # two captions of plane 1, and two of the same part of plane 2
    contrastive, diag, off_same = dark_parts(lambda p: p * (alike | np.eye(size, dtype=bool)))
    rest = dark_parts(lambda p: p * ~alike)[2]
    near(ask(name, pairs(0, 14.0), pairs(1, 20.0)),
         {"loss": contrastive + diag + same * off_same + different * rest, "contrastive": contrastive, "diag": diag,
          "same": off_same, "different": rest, "w_diag": 1.0, "w_same": same, "w_off": different})


def test_a_key_holds_the_code_of_its_own_objective_only():
    "Neither the registry nor a function that reads it leads to another objective."
    own = work.definitions(["dark.objectives.weighted_pairs", "dark.distil.loop.pair_losses"], work.package, False)
    assert "weighted_pairs" in own and not {"relational", "feature_kd", "weighted_rows"} & set(own)
    stage = work.definitions(["dark.distil.phantom.distil_all"], work.package, True)
    assert {"weighted_pairs", "weighted_rows", "clipped_rows"} <= set(stage)  # a stage runs again
