"""What training moves out of a GPU's memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainers.spent import Away


@pytest.mark.gpu
def test_parts_are_in_gpu_memory_only_while_they_are_needed() -> None:
    device = torch.device("cuda")
    pipe = SimpleNamespace(vae=nn.Linear(1024, 1024).to(device), text_encoder=None)
    held = torch.cuda.memory_allocated()
    away = Away([pipe.vae], device)
    assert torch.cuda.memory_allocated() <= held - 4 * 1024 * 1024
    with away.back():
        assert pipe.vae.weight.is_cuda
    assert not pipe.vae.weight.is_cuda
