"""A suite to align the tiny random pipeline with: people of the embedded world, a few frames of each."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ipa_bench import pose, video
from ipa_bench.embedded import estimator, world
from ipa_bench.types import Split
from tests import tiny_wan
from tests.forked import Server, Started

FRAMES, SIDE = 5, 32
#: as in the built-in world, nobody of the test split has a mask video
PEOPLE: tuple[tuple[Split, int], ...] = (("train", 500), ("train", 501), ("val", 0), ("test", 0), ("test", 1))

BASE = """
[[model]]
name = "base"
kind = "wan_vace"
model = "model"
dtype = "fp32"
steps = 1
"""

#: every stage, as short as it can be; nothing is rounded to bf16, which is slower on a CPU
CONFIG = """
method = "ipa"
[candidates]
per_case = 2
decode_dtype = "fp32"
[choose]
metric = "frame.psnr"
[masks]
mask = "exact"
[adapter]
rank = 2
[train]
steps = 4
batch = 2
micro_batch = 1
lr = 0.01
warmup = 0
precision = "fp32"
save_every = 1
[watch]
cases = 1
steps = 1
[evaluate]
seeds = 1
"""


def case(folder: Path, split: Split, identity: int) -> str:
    """Files of a person in ``folder``, and the case's table."""
    clip = world.clip(split, identity, 0, frames=FRAMES)
    name = f"{split}{identity}"
    video.encode(clip.frames, folder / f"{name}.mp4", clip.fps, crf=12)
    drawn = pose.draw(estimator.estimated_pose(clip, split, identity, 0))
    video.encode(drawn, folder / f"{name}_pose.mp4", clip.fps, crf=12)
    Image.fromarray(world.reference(split, identity, 0)).save(folder / f"{name}.png")
    text = (
        f'[[case]]\nid = "{name}__take0"\nidentity = "{name}"\nsplit = "{split}"\ndriving = "{name}.mp4"\n'
        f'ground_truth = "driving"\npose = "{name}_pose.mp4"\nreference = "{name}.png"\n'
        f'prompt = "{world.prompt(clip.person)}"\nframes = {FRAMES}\nfps = {clip.fps:.1f}\nsize = [{SIDE}, {SIDE}]\n'
    )
    if split != "test":
        hands = (clip.masks.sum(1).clip(0, 1) * 255).round().astype(np.uint8)
        video.encode(np.repeat(hands[..., None], 3, -1), folder / f"{name}_mask.mp4", clip.fps, crf=12)
        text += f'mask = "{name}_mask.mp4"\n'
    return text


def write(folder: Path, people: Iterable[tuple[Split, int]] = PEOPLE) -> Path:
    """``suite.toml``, ``align.toml`` and the model that they are about, in ``folder``."""
    tiny_wan.save(folder / "model")
    (folder / "suite.toml").write_text("\n".join([case(folder, *person) for person in people]) + BASE)
    (folder / "align.toml").write_text(CONFIG)
    return folder


def own_cache(folder: Path, like: Path) -> Path:
    """A cache that holds model files and nothing that was observed or encoded."""
    folder.mkdir()
    for file in like.glob("*.tflite"):
        shutil.copy(file, folder)
    return folder


def start(server: Server, command: Sequence[str | Path], cache: Path, said: Path) -> Started:
    """A process of ``ipa-bench`` with one thread; ``said``: what it says."""
    variables = {**os.environ, "IPA_BENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return server.start(command, said.parent, variables, said)


def wait_for(process: Started, line: str) -> None:
    """Until a process has said a line that matches the pattern ``line``, or has ended."""
    deadline = time.monotonic() + 120
    while process.wait(0) is None and not re.search(line, process.errors, re.MULTILINE):
        assert time.monotonic() < deadline, process.errors
        time.sleep(0.02)


def kill_while_it_works(process: Started, seconds: float) -> bool:
    """SIGKILL a process ``seconds`` after the first piece of its work; False where it ended before that."""
    wait_for(process, r"^\w+: [1-9]")
    return process.kill_after(seconds) == -signal.SIGKILL
