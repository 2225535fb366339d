"""The part of a control video that is kept is blank, and encoded once for each size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanVACEPipeline

from ipa_bench.models.checkpoint import EMBEDDED_FOLDER
from ipa_bench.models.wan import conditioning


@pytest.fixture
def pipe() -> Any:
    return WanVACEPipeline.from_pretrained(EMBEDDED_FOLDER, dtype=torch.float32)  # type: ignore[no-untyped-call]


def test_a_second_clip_encodes_its_pose_alone(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 255, (5, 32, 32, 3), dtype=np.uint8) for _ in range(2)]
    wanted = [conditioning.control_latents(pipe, clip) for clip in clips]
    del pipe.vae.__dict__["_blank"]
    seen: list[bool] = []
    kind = type(pipe.vae)
    whole = kind._encode

    def counted(self: Any, x: torch.Tensor) -> Any:
        seen.append(bool(x.any()))
        return whole(self, x)

    monkeypatch.setattr(kind, "_encode", counted)
    found = [conditioning.control_latents(pipe, clip) for clip in clips]
    assert seen == [False, True, True]
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs)
    conditioning.control_latents(pipe, clips[0][:1])
    assert seen[3:] == [False, True]  # another size
    assert "encode" not in vars(pipe.vae)
