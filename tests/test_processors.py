"The whole default on another kind of processor: numbers move, what is said of them does not."
import pandas as pd
import pytest
import torch
from conftest import ROOT

from dark.core.ledger import Ledger, final_scores
from dark.paper.processors import capabilities, environment_of, measure_setting, settings
from dark.paper.verdicts import direction, family


@pytest.mark.skipif(not settings(), reason="this processor has no older instructions to be told to use")
def test_smoke_on_an_older_processor(smoke):
    "Same code, seeds and pictures; sums in another order."
    shown, other = Ledger("smoke").read(), measure_setting("smoke", "default/threads-1")
    verdicts = []
    for ledger in (shown[shown["stage"] == "40_zero_shot"], other):
        found = family(pd.read_csv(ROOT / "data/reference/claims.csv", keep_default_na=False), ledger)
        verdicts.append({claim: direction(*test) for claim, test in found.items()})
    assert verdicts[0] == verdicts[1] and {"P1", "C8", "R3"} <= set(verdicts[0])
    for name in ("teacher", "no-kd", "dark-b2-e-0.8"):
        one, two = (final_scores(ledger, name, "avg") for ledger in (shown, other))
        assert one.index.equals(two.index) and (one - two).abs().max() < 0.2


def test_the_limits_are_those_that_the_libraries_know():
    own = torch.backends.cpu.get_cpu_capability().lower()
    assert own not in capabilities() or capabilities()[-1] == own
    assert environment_of("avx512/threads-2")["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE"
    assert environment_of("default/threads-1")["MKL_CBWR"] == "COMPATIBLE"
