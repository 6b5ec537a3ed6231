"What the libraries are told, to make another kind of processor of this one; tests/test_pipeline.py runs smoke on it."
import torch

from dark.paper.processors import capabilities, environment_of


def test_the_limits_are_those_that_the_libraries_know():
    own = torch.backends.cpu.get_cpu_capability().lower()
    assert own not in capabilities() or capabilities()[-1] == own
    assert environment_of("avx512/threads-2")["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE"
    assert environment_of("default/threads-1")["MKL_CBWR"] == "COMPATIBLE"
