"""What training moves out of a GPU's memory, and what it holds, exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ipa_bench.files import LORA_FILE
from ipa_bench.models.wan import outline, published
from tests import tiny_wan
from trainers.config import AdapterConfig, DataConfig, ModelConfig, TrainConfig, TrainTable
from trainers.policy import LoraPolicy
from trainers.spent import Away, held


@pytest.mark.gpu
def test_parts_are_in_gpu_memory_only_while_they_are_needed() -> None:
    device = torch.device("cuda")
    part = nn.Linear(1024, 1024).to(device)
    held = torch.cuda.memory_allocated()
    away = Away([part], device)
    assert torch.cuda.memory_allocated() <= held - 4 * 1024 * 1024
    with away.back():
        assert part.weight.is_cuda
    assert not part.weight.is_cuda


def config(adapter: AdapterConfig, ema: float = 0.0) -> TrainConfig:
    data, model = DataConfig(suite="s", selection="t"), ModelConfig(model="m", dtype="fp32")
    return TrainConfig(data=data, model=model, adapter=adapter, train=TrainTable(ema=ema))


def test_trained_values_of_the_published_sizes_by_hand() -> None:
    """1.3B: 45 blocks of 1536, feed-forward 8960. A LoRA of rank r on a layer a -> b has r (a + b) values."""
    wan = outline.named(published.VACE_1_3B.name, random_weights=True)
    qkv = 45 * 6 * 128 * 2 * 1536
    linear = 45 * 128 * (8 * 2 * 1536 + 2 * (1536 + 8960))
    assert (round(qkv / 1e6), round(linear / 1e6)) == (106, 262)
    for layers, values in (("qkv", qkv), ("linear", linear)):
        found = held(config(AdapterConfig(rank=128, layers=layers)), None, wan)  # type: ignore[arg-type]
        assert (found.adapter, found.gradients) == (4 * values, 4 * values)
        assert found.weights == 4 * published.VACE_1_3B.parameters
    half = held(config(AdapterConfig(rank=128, blocks="main"), ema=0.9), None, wan)
    assert half.adapter == half.average == 4 * qkv * 30 // 45


def test_a_lora_that_training_continues_from_decides_the_shape_and_lies_beside_it(tmp_path: Path) -> None:
    start = tiny_wan.save_lora(tmp_path) / LORA_FILE  # rank 2 on queries and values
    policy = LoraPolicy(tiny_wan.base(), AdapterConfig(rank=64, layers="linear"), start, 0)
    found = held(config(AdapterConfig(rank=64, layers="linear")), start, policy.base.outline)
    assert found.adapter == sum(p.nbytes for p in policy.parameters.values())
    assert found.weights == sum(p.nbytes for name, p in policy.named() if ".policy." not in name)
