"""What is computed in where nobody says otherwise follows what the processor is fast in."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ipa_bench.nets import precision
from trainers.align.config import AlignConfig
from trainers.config import TrainTable

CPU = torch.device("cpu")


@pytest.mark.parametrize(("slow", "chosen"), [(1.0, "bf16"), (9.0, "fp32")])
def test_it_is_the_faster(monkeypatch: pytest.MonkeyPatch, slow: float, chosen: str) -> None:
    """fp32 takes 2 s; bf16 takes 1 s, or 9 s on a processor without instructions for it."""
    monkeypatch.setattr(precision, "_fastest", lambda a, _: slow if a.dtype == torch.bfloat16 else 2.0)
    precision._processor_likes_half.cache_clear()
    try:
        assert precision.half("auto", CPU) is (chosen == "bf16")
        if not torch.cuda.is_available():
            assert precision.usual() == chosen
            assert TrainTable().precision == chosen
            assert AlignConfig().candidates.decode_dtype == AlignConfig().train.precision == chosen
    finally:
        precision._processor_likes_half.cache_clear()


def test_what_is_said_is_done() -> None:
    assert precision.half("bf16", CPU)
    assert not precision.half("fp32", CPU)
    assert TrainTable(precision="bf16").precision == "bf16"


def test_a_configuration_that_says_it_needs_no_torch() -> None:
    code = "import sys; from trainers.config import TrainTable; assert 'ipa_bench.nets.precision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
