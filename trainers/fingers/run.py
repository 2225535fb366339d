"""Training of the head that sees fingers, and what it makes of people and clips that it has not seen.

    ipa-bench embedded fingers PHOTOGRAPHS --footage CLIP --held-out CLIP --out FOLDER

PHOTOGRAPHS holds the folders 0 to 9 of the Sign Language Digits Dataset (Apache-2.0). Pictures are edited and looked at
once, which takes three minutes of one core, and are kept in FOLDER (0.14 MB each); the fit takes two minutes.
``FOLDER/fingers.safetensors`` is written with its sha256. To ship it, copy it to ``ipa_bench/embedded/nets`` and put
the hash into ``ipa_bench/weights/shipped.py``. One thread and one seed: the same machine gives the same file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from ipa_bench.cache import Cache
from ipa_bench.files import sha256_of
from ipa_bench.nets.fingers import FILE, FingerHead
from trainers.fingers import fit, material, sources
from trainers.fingers.material import Material

#: people of the built-in world whose hands are learned from too
RENDERED = 40


def made(
    photographs: Path,
    footage: list[Path],
    held_out: list[Path],
    out: Path,
    most: int,
    steps: int | None,
    seed: int,
) -> dict[str, object]:
    """Gather, train, measure, write; what was measured. Raises UserError, and Unscorable for a clip."""
    torch.set_num_threads(1)  # sums do not depend on the machine's cores
    name = f"photographs-{most}-{seed}"
    pictures = material.make(name, sources.photographs(photographs, most), out, seed, _progress)
    looks = Cache(out / "looks")
    drawn = material.make(f"rendered-{RENDERED}-{seed}", sources.renderings(RENDERED), out, seed, _progress)
    clips = {clip: _clip(clip, out, seed, looks) for clip in (*footage, *held_out)}
    how = replace(fit.TRAINING, seed=seed, steps=steps or fit.TRAINING.steps)
    taught = [pictures.of(~pictures.held_out), drawn, *(clips[clip] for clip in footage)]
    head = fit.fit(taught, out / f"state-{'-'.join(clip.stem for clip in footage)}-{seed}.pt", how, _told)
    written = write(head, out)
    measured: dict[str, object] = {"photographs": fit.measured(head, pictures.of(pictures.held_out))}
    for clip in held_out:
        measured[clip.stem] = fit.measured(head, clips[clip])
    return measured | {"sha256": written}


def _clip(clip: Path, out: Path, seed: int, looks: Cache) -> Material:
    return material.make(f"{clip.stem}-{seed}", sources.frames(clip, looks), out, seed, _progress)


def write(head: FingerHead, folder: Path) -> str:
    """Write the head in float16, what standardises its input in float32; the file's sha256."""
    exact = ("mean", "spread")
    tensors = {
        name: (tensor if name in exact else tensor.half()).contiguous() for name, tensor in head.state_dict().items()
    }
    save_file(tensors, folder / FILE)
    return sha256_of(folder / FILE)


def _progress(stage: str, done: int, total: int) -> None:
    if done % 100 == 0:
        print(f"{stage}: {done} hands", file=sys.stderr, flush=True)


def _told(step: int, steps: int, losses: Mapping[str, float]) -> None:
    if step % 50 == 0 or step == steps:
        shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        print(f"step {step}/{steps} {shown}", file=sys.stderr, flush=True)
