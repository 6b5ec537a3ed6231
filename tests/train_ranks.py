"Run by torchrun: a small model is trained on this rank's part of each batch, in double precision; rank 0 saves it."
import os
import sys
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.nn.functional import normalize

from dark.distil.batches import Together
from dark.distil.loop import fit
from dark.distil.pair import InParts, named_losses
from dark.recipe import Training, get_recipe


class Towers(torch.nn.Module):
    "Two towers with a hidden layer, and a scale."

    def __init__(self, seed, width):
        super().__init__()
        torch.manual_seed(seed)
        self.image, self.text = (torch.nn.Sequential(torch.nn.Linear(wide, 16), torch.nn.GELU(),
                                                     torch.nn.Linear(16, width)) for wide in (9, 7))
        self.logit_scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, image, text):
        return normalize(self.image(image), dim=1), normalize(self.text(text), dim=1), self.logit_scale.exp()


class Rows:
    "Sixteen pairs a batch, of which each rank sees its part."

    def __init__(self, rank, ranks):
        self.ranks, self.own = ranks, slice(rank * 16 // ranks, (rank + 1) * 16 // ranks)
        generator = torch.Generator().manual_seed(5)
        self.image, self.text = (torch.randn(8, 16, n, generator=generator, dtype=torch.float64) for n in (9, 7))

    def __len__(self):
        return len(self.image)

    def epoch(self, number, first=0):
        for image, text in zip(self.image[first:], self.text[first:]):
            yield [image[self.own]] * 2, [text[self.own]] * 2, None


def train(out, exact, accelerator):
    "Train on batches that are compared as one, `exact` of them, and save weights and losses."
    model, teacher = Towers(0, 5).double(), Towers(1, 6).double().requires_grad_(False)
    data = Rows(accelerator.process_index, accelerator.num_processes)
    model, data = (InParts(model), Together(data, exact)) if exact > 1 else (model, data)
    forward = partial(named_losses, teacher=teacher, target_scale=5.0)
    history = fit(model, data, get_recipe("dark-b2-e-0.8"), Training(3, 16, 1e-2, 2), forward=forward,
                  accelerator=accelerator)
    if accelerator.is_main_process:
        torch.save({"weights": model.state_dict(), "loss": [entry["loss"] for entry in history]}, out)
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    accelerator = Accelerator(cpu=True)
    for exact in sys.argv[2:]:
        train(Path(sys.argv[1]) / exact, int(exact), accelerator)
    sys.stdout.flush()
    os._exit(0)  # or the interpreter's end may find threads of gloo that still run, and abort
