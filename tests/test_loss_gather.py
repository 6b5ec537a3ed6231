"""Two processes must take the same step as one with the whole batch."""

import os
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn
from torch.nn.functional import normalize

from dark.loss import Embeddings, dark_loss, gather_embeddings

RANKS, PAIRS, WIDTH = 2, 3, 4
CHUNKS = (None, 4)


class TwoTowers(nn.Module):
    "The smallest student: one matrix for images, one for texts, one scale."

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(5, WIDTH, dtype=torch.float64), nn.Linear(6, WIDTH, dtype=torch.float64)
        self.log_scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, image, text):
        return normalize(self.image(image), dim=1), normalize(self.text(text), dim=1), self.log_scale.exp()


def whole_batch():
    "Student inputs and teacher embeddings of all ranks."
    generator = torch.Generator().manual_seed(1)
    image, text, teacher_image, teacher_text = (
        torch.randn(RANKS * PAIRS, width, generator=generator, dtype=torch.float64) for width in (5, 6, 7, 7)
    )
    scale = torch.tensor(30.0, dtype=torch.float64)
    return image, text, Embeddings(normalize(teacher_image, dim=1), normalize(teacher_text, dim=1), scale)


def join(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS, timeout=timedelta(seconds=15)
    )


def leave():
    "No rank goes while another still talks, and none lets the interpreter's end find gloo's threads running."
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)


def one_rank(rank, folder):
    "What each process does: its own rows, its own teacher rows, gathered; loss and gradients go to a file."
    join(rank, folder)
    image, text, teacher = whole_batch()
    own = slice(rank * PAIRS, (rank + 1) * PAIRS)
    for chunk in CHUNKS:
        model = nn.parallel.DistributedDataParallel(TwoTowers())
        student = Embeddings(*model(image[own], text[own]))
        frozen = gather_embeddings(teacher._replace(image=teacher.image[own], text=teacher.text[own]))
        loss = dark_loss(gather_embeddings(student), frozen, off_diag=-0.8, chunk=chunk)["loss"]
        loss.backward()
        torch.save([loss.detach()] + [p.grad for p in model.parameters()], f"{folder}/{rank}-{chunk}.pt")
        del model, student, loss
    leave()


def unequal_rank(rank, folder):
    "Rank 1 has one pair more."
    join(rank, folder)
    rows = torch.eye(PAIRS + rank, WIDTH)  # unit norm
    with pytest.raises(ValueError, match=r"ranks hold \[3, 4\] pairs"):
        gather_embeddings(Embeddings(rows, rows, torch.tensor(1.0)))
    leave()


def test_two_processes_take_the_step_of_one(tmp_path):
    torch.multiprocessing.spawn(one_rank, (tmp_path,), nprocs=RANKS)
    image, text, teacher = whole_batch()
    model = TwoTowers()
    loss = dark_loss(Embeddings(*model(image, text)), teacher, off_diag=-0.8)["loss"]
    loss.backward()
    expected = [loss.detach()] + [p.grad for p in model.parameters()]
    for rank in range(RANKS):
        for chunk in CHUNKS:
            torch.testing.assert_close(torch.load(tmp_path / f"{rank}-{chunk}.pt"), expected, rtol=0, atol=1e-12)


def test_ranks_with_different_numbers_of_pairs_are_refused(tmp_path):
    torch.multiprocessing.spawn(unequal_rank, (tmp_path,), nprocs=RANKS)


def test_single_process_gathers_nothing():
    _, _, teacher = whole_batch()
    assert gather_embeddings(teacher) is teacher
