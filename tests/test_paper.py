"""The paper's run at full size, for two steps, on drawings and random weights."""
import math

import numpy as np
import pytest

from dark.data.phantom import Phantom
from dark.data.prompts import PLANES, caption
from dark.data.shards import write_shards
from dark.distil.full_size import dry_run
from dark.recipe import get_profile, get_recipe

PAPER = get_profile("paper")


def test_settings():
    "As the paper states them."
    training = PAPER.distil
    assert (training.epochs, training.batch, training.lr, training.warmup) == (20, 512, 1e-5, 500)
    assert (training.weight_decay, training.betas, training.eps, training.clip) == (.1, (.9, .98), 1e-6, 1.)
    assert (training.max_scale, PAPER.seeds, PAPER.context, PAPER.train) == (100., (42,), 117, 246349)
    assert 100 / PAPER.target_scale == 5, "tau"


@pytest.mark.full
def test_dry_run(tmp_path):
    batch, random = Phantom(256, split="dry").sample(22), np.random.default_rng(0)
    pairs = [(image.numpy(), caption(scan, random)) for image, scan in zip(batch.images, batch.scans)]
    told = dry_run(write_shards(tmp_path, pairs, per_shard=11), PAPER, get_recipe("dark-b2-e-0.8"))
    assert [round(told[part] / 1e6, 1) for part in ("teacher", "student", "image_tower")] == [427.6, 74.9, 11.4]
    assert told["shapes"] == [(2, 3, 256, 256), (2, 3, 224, 224), (2, 117)] and told["embeddings"] == (8, 512)
    assert all(math.isfinite(entry[term]) for entry in told["history"] for term in ("loss", "diag", "off_diag"))
    assert [round(entry["w_off"], 2) for entry in told["history"]] == [2., 1.3, .6, -.1]
    assert len(told["predicted"]) == 8 and set(told["predicted"]) <= set(PLANES)
    assert told["memory"] < 12
    print({key: told[key] for key in ("memory", "seconds", "teacher", "student", "image_tower")})
