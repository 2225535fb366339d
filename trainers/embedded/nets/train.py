"""``ipa-bench embedded nets``: train the small nets that ship with the project.

    ipa-bench embedded nets video runs/nets
    ipa-bench embedded nets image runs/nets
    ipa-bench embedded nets joints runs/nets

Renders people of the train split (and of val, to measure), trains, prints accuracy on people of val, writes
``FOLDER/video.safetensors``, ``image`` or ``joints`` with its sha256. To ship it, copy it to
``ipa_bench/embedded/nets`` and put the hash into ``ipa_bench/weights/shipped.py``. What is rendered stays in FOLDER.
Ctrl-C stops it; the same command goes on. One thread and one seed: the same machine gives the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError
from ipa_bench.nets.embedded import IMAGE, VIDEO
from ipa_bench.nets.hand_joints import JOINTS
from trainers.embedded.nets import image as embedded_image
from trainers.embedded.nets import joints as embedded_joints
from trainers.embedded.nets import samples as embedded_samples
from trainers.embedded.nets import video as embedded_video

#: people of train that each net learns from, and of val that it is measured on; two clips or pictures of each
PEOPLE = {"video": 400, "image": 1500, "joints": 4500}
HELD_OUT = {"video": 40, "image": 200, "joints": 300}
#: these stay in float32: a batch norm's variances can be too small for float16, and they are few
_EXACT = (".bn.",)


def make(
    kind: str,
    folder: Path,
    people: int | None = None,
    held_out: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    jobs: int | None = None,
) -> tuple[object, str]:
    """Render, train, measure, write: what was measured, and a line about the file.

    ``kind`` is ``video``, ``image`` or ``joints``; None stands for the usual number, and for every core. Raises
    :class:`UserError`.
    """
    torch.set_num_threads(1)  # sums do not depend on the machine's cores
    changes = {"seed": seed} | ({"steps": steps} if steps else {})
    made = {"video": _video, "image": _image, "joints": _joints}[kind]
    shown = people or PEOPLE[kind], held_out or HELD_OUT[kind]
    try:
        file, measured = made(folder, *shown, jobs or pool.cores(), changes)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}", "choose a folder that can be written to") from error
    return measured, f"{file}: {file.stat().st_size} bytes, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _video(folder: Path, people: int, held_out: int, jobs: int, changes: dict[str, int]) -> tuple[Path, object]:
    train = embedded_samples.clips(folder / "clips_train", "train", people, jobs, _rendered)
    unseen = embedded_samples.clips(folder / "clips_val", "val", held_out, jobs, _rendered)
    how = replace(embedded_video.TRAINING, **changes)
    pupil = embedded_video.train(train, how, folder / "video.state.pt", _tell)
    measured = {
        "held out": embedded_video.accuracy(pupil, unseen),
        "trained on": embedded_video.accuracy(pupil, train.some(len(unseen))),
    }
    return write(embedded_video.scaled(pupil), folder / VIDEO), measured


def _image(folder: Path, people: int, held_out: int, jobs: int, changes: dict[str, int]) -> tuple[Path, object]:
    train = embedded_samples.portraits(folder / "portraits_train", "train", people, jobs, _rendered)
    unseen = embedded_samples.portraits(folder / "portraits_val", "val", held_out, jobs, _rendered)
    how = replace(embedded_image.TRAINING, **changes)
    pupil = embedded_image.train_trunk(train, how, folder / "image.state.pt", _tell)
    net = pupil.net
    seen = embedded_image.differences(net, "train", min(embedded_image.HEAD_PEOPLE, people))
    weight = embedded_image.fit_heads(*seen, net.channels)
    judged = embedded_image.differences(net, "val", held_out)
    measured = {
        "held out": embedded_image.accuracy(pupil, unseen),
        "trained on": embedded_image.accuracy(pupil, train.some(len(unseen))),
        "ranking, learned heads": embedded_image.ranking(*judged, weight),
        "ranking, heads of ones": embedded_image.ranking(*judged, embedded_image.ones_of(net.channels)),
    }
    embedded_image.place_heads(net, weight)
    return write(net, folder / IMAGE), measured


def _joints(folder: Path, people: int, held_out: int, jobs: int, changes: dict[str, int]) -> tuple[Path, object]:
    train = embedded_joints.hands(folder / "hands_train.npz", "train", people, jobs, _rendered)
    unseen = embedded_joints.hands(folder / "hands_val.npz", "val", held_out, jobs, _rendered)
    how = replace(embedded_joints.TRAINING, **changes)
    net = embedded_joints.train(train, how, folder / "joints.state.pt", _tell)
    return write(net, folder / JOINTS), {"held out": embedded_joints.error(net, unseen)}


def write(net: nn.Module, file: Path) -> Path:
    """Store a net's tensors in float16, batch norms in float32, as safetensors."""
    tensors = {
        name: (tensor.float() if any(part in name for part in _EXACT) else tensor.half()).contiguous()
        for name, tensor in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(tensors, file)
    return file


def _rendered(stage: str, done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        print(f"{stage} {done}/{total}", flush=True)


_recent: list[Mapping[str, float]] = []


def _tell(done: int, total: int, losses: Mapping[str, float]) -> None:
    _recent.append(losses)
    if done % 20 == 0 or done == total:
        means = {name: float(np.mean([row[name] for row in _recent if name in row])) for name in losses}
        print(f"train {done}/{total} " + " ".join(f"{name} {value:.3f}" for name, value in means.items()), flush=True)
        _recent.clear()
