"""What training counts, and what it moves out of a GPU's memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainers.reference_errors import ReferenceErrors
from trainers.spent import Away, counting


def test_a_reference_is_known_where_nothing_new_was_computed(tmp_path: Path) -> None:
    known = ReferenceErrors(tmp_path)
    with counting(known) as computed:
        known.add(["a"], [0.5])
    assert computed == [False]
    with counting(known) as looked_up:
        known.get("a")
    assert looked_up == [True]
    with counting(None) as never:
        pass
    assert never == [False]


@pytest.mark.gpu
def test_parts_are_in_gpu_memory_only_while_they_are_needed() -> None:
    device = torch.device("cuda")
    pipe = SimpleNamespace(vae=nn.Linear(1024, 1024).to(device), text_encoder=None)
    held = torch.cuda.memory_allocated()
    away = Away(pipe, device)
    assert torch.cuda.memory_allocated() <= held - 4 * 1024 * 1024
    with away.back():
        assert pipe.vae.weight.is_cuda
    assert not pipe.vae.weight.is_cuda
