"""The paper's training: two processes go where one goes with the same pairs, and the command works at full size."""
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from accelerate import Accelerator
from open_clip import SimpleTokenizer
from safetensors.torch import save_file
from test_loss_gather import RANKS, TwoTowers, join, leave

from dark.core import paths
from dark.core.paths import Busy, hold
from dark.data.phantom import Phantom
from dark.data.prompts import caption
from dark.data.shards import write_shards
from dark.distil import full_size
from dark.distil.full_size import fit_taught, keep_paper, start_run, train_epochs
from dark.distil.loop import Callback
from dark.evaluate.zero_shot import find_readers
from dark.models.clip import build, load_student, save_model
from dark.models.named import open_model
from dark.models.released import get_release
from dark.recipe import get_profile, get_recipe

PAPER = get_profile("paper")
PAIRS = 4


class Student(TwoTowers):
    def __init__(self):
        super().__init__()
        self.logit_scale = self.log_scale
        self.float()


class Batches:
    "Two batches of an epoch: pictures for both models, tokens; the rows of a rank, or all."

    def __init__(self, own=slice(None), ranks=1):
        self.own, self.ranks = own, ranks

    def __len__(self):
        return 2

    def epoch(self, number):
        for step in range(2):
            generator = torch.Generator().manual_seed(10 * number + step)
            made = (torch.randn(RANKS * PAIRS, width, generator=generator)[self.own] for width in (5, 5, 6))
            yield tuple(made)


def train(folder, batches):
    quick = replace(PAPER, distil=PAPER.distil._replace(warmup=1, lr=0.05, epochs=4))
    student, teacher = Student(), Student().requires_grad_(False)
    with torch.no_grad():
        teacher.image.weight.mul_(-1)
    cpu, recipe = Accelerator(cpu=True), get_recipe("dark-b2-e-0.8")
    train_epochs(student, teacher, batches, recipe, quick, folder, "key", cpu)


class KeepGradients(Callback):
    "Of the first of the two batches of a step: neither clipped nor scaled by the optimizer."

    def __init__(self, file):
        self.file = file

    def after_step(self, run):
        if run.step == 1:
            torch.save([p.grad for p in run.plain.parameters()], self.file)


def first_gradients(file, batches):
    brief = replace(PAPER, distil=PAPER.distil._replace(epochs=1, warmup=0))
    fit_taught(Student(), Student().requires_grad_(False), batches, get_recipe("dark-b2-e-0.8"), brief,
               (KeepGradients(file),), Accelerator(cpu=True))


def one_rank(rank, folder):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS), LOCAL_WORLD_SIZE=str(RANKS))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="1")  # asked for, not used: `join` meets in a file
    join(rank, folder)
    own = slice(rank * PAIRS, (rank + 1) * PAIRS)
    first_gradients(folder / f"gradients-{rank}.pt", Batches(own, RANKS))
    train(folder / "two", Batches(own, RANKS))
    with pytest.raises(ValueError, match="divided among 1 processes, not 2"):
        train(folder / "undivided", Batches())
    assert dist.get_world_size() == RANKS
    leave()


def test_two_processes_train_as_one(tmp_path):
    torch.multiprocessing.spawn(one_rank, (tmp_path,), nprocs=RANKS)
    train(tmp_path / "one", Batches())
    first_gradients(tmp_path / "gradients.pt", Batches())
    expected = torch.load(tmp_path / "gradients.pt")
    assert max(g.abs().max() for g in expected) > 0.01
    for rank in range(RANKS):
        torch.testing.assert_close(torch.load(tmp_path / f"gradients-{rank}.pt"), expected, rtol=1e-4, atol=1e-6)
    two, one = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("two", "one"))
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    assert not torch.equal(one["image.weight"], Student().image.weight)
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").open()] for name in ("two", "one")]
    assert [line["epoch"] for line in logs[0]] == [1, 2, 3, 4]
    assert [line["loss"] for line in logs[0]] == pytest.approx([line["loss"] for line in logs[1]], abs=1e-4)


def test_open_clip_opens_the_papers_student(tmp_path):
    "With the statistics, the context and the words that it was trained with; its card names no folder of a machine."
    folder, shards = tmp_path / "dark-s42", [tmp_path / "my-pairs" / name / "0.tar" for name in "ab"]
    for path in (folder, *(shard.parent for shard in shards)):
        path.mkdir(parents=True)
    for shard in shards:
        shard.write_bytes(b"pairs")
    student = build(PAPER.student, PAPER, seed=1)
    with torch.device("meta"):  # of which the card gives the size alone
        teacher = build(PAPER.teacher, PAPER, seed=0)
    keep_paper(folder, student, teacher, PAPER, shards, recipe="dark-b2-e-0.8", seed=42, precision="fp32")
    opened, release = open_model(str(folder)), get_release(PAPER.student)
    assert opened.wants == (release.size, release.mean, release.std) and opened.context == PAPER.context
    picture = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        torch.testing.assert_close(opened.model.encode_image(picture), student.encode_image(picture))
        torch.testing.assert_close(opened.model.encode_text(opened.tokens("a scan")),
                                   student.encode_text(SimpleTokenizer(context_length=117)(["a scan"])))
    card = (folder / "README.md").read_text(encoding="utf-8")
    for told in ("| data | my-pairs |", "| batch | 512, 2 of them a step |", "74,855,553", "427,647,233"):
        assert told in card
    assert str(tmp_path) not in card and "`run.toml`" not in card


def test_a_run_keeps_its_student_and_nothing_of_a_killed_one(tmp_path, monkeypatch):
    "One process at a time, in one folder."
    kept, quick = [], replace(PAPER, distil=PAPER.distil._replace(warmup=1, lr=0.05, epochs=2))
    folder = tmp_path / "no-kd-s7"
    folder.mkdir()
    for name in (".checkpoint.k1lled00.pt", ".model.k1lled00.pt", ".open_clip_model.k1lled00.safetensors"):
        (folder / name).write_text("half")
    stands_for = {"locate": lambda _: tmp_path, "run_folder": lambda *_: folder, "build": lambda *_, **__: None,
                  "load_model": lambda *_: Student().requires_grad_(False), "initial_student": lambda _: Student(),
                  "ShardPairs": lambda *_: Batches(), "run_key": lambda *_: "key",
                  "keep_paper": lambda place, *_, **told: kept.append((place, told))}
    for name, function in stands_for.items():
        monkeypatch.setattr(full_size, name, function)
    assert start_run(quick, "no-kd", 7, [tmp_path / "0.tar"], workers=0) == folder
    assert kept == [(folder, {"recipe": "no-kd", "seed": 7, "precision": "fp32"})]
    assert [path.name for path in folder.iterdir() if "k1lled" in path.name] == [] and (folder / "model.pt").is_file()
    with hold(folder / ".lock-0", "it is being trained"), pytest.raises(Busy, match="being trained"):
        start_run(quick, "no-kd", 7, [tmp_path / "0.tar"], workers=0)


@pytest.mark.full
def test_command_at_full_size(tmp_path, monkeypatch):
    "Two epochs of two batches, from files of the released names and shapes to a student that stage 45 finds."
    monkeypatch.setattr(paths, "data", tmp_path)
    monkeypatch.setattr(paths, "raw", tmp_path / "raw")
    for name, seed in (("fetalclip", 1), ("mobileclip2-s0", 2)):
        release = get_release(name)
        file = paths.raw / release.item / release.file
        file.parent.mkdir(parents=True)
        model = build(name, PAPER, seed)
        save_file(model.state_dict(), file) if file.suffix == ".safetensors" else save_model(model, file)
    batch, random = Phantom(256, split="dry").sample(12), np.random.default_rng(0)
    pairs = [(image.numpy(), caption(scan, random)) for image, scan in zip(batch.images, batch.scans)]
    shards = write_shards(tmp_path / "shards", pairs, per_shard=6)
    short = replace(PAPER, train=8, distil=PAPER.distil._replace(epochs=2, batch=4, warmup=1))
    folder = start_run(short, "dark-b2-e-0.8", 42, shards, workers=0)
    log = [json.loads(line) for line in (folder / "log.jsonl").open()]
    assert [round(line["w_off"], 2) for line in log] == [1.3, -0.1]
    load_student(PAPER, folder / "model.pt")
    assert open_model(str(folder)).context == PAPER.context and (folder / "README.md").is_file()
    found, absent = find_readers(PAPER)
    assert len(found) == 2 and "mobilefetalclip" in absent
