"The made-up ledger of `dark.core.ledger`, for tests that span modules."
from dark.core.ledger import GAIN, Ledger, as_table, made_up_rows, row

TEACHER, CONSTANT = .74, .3


def measurement(name, metric, value, seed=None, stage="40_zero_shot", epoch=None, split="test"):
    return {"stage": stage, **row(name, metric, value, "fraction", split, seed, epoch, 100)}


def write(profile, seeds):
    "Into the ledger of a profile; for a process whose DARK_ROOT is elsewhere."
    for stage in ("30_train", "40_zero_shot", "50_published_teacher"):
        Ledger(profile).write(stage, [row for row in made_up_rows(GAIN, seeds) if row["stage"] == stage])


def ledger(seeds=range(5)):
    return as_table(made_up_rows(GAIN, seeds))
