"""``python -m trainers.embedded.nets.train``: train the two small nets that ship with the project.

    python -m trainers.embedded.nets.train video runs/nets
    python -m trainers.embedded.nets.train image runs/nets

Renders people of the train split (and of val, to measure), trains, prints accuracy on people of val, and writes
``FOLDER/video.safetensors`` or ``FOLDER/image.safetensors`` with its sha256. To ship it, copy it to
``ipa_bench/embedded/nets`` and put the hash into ``ipa_bench/nets/embedded.py``. What is rendered stays in ``FOLDER``.
Ctrl-C stops it; the same command goes on. One thread and one seed: the same machine gives the same file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
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
from trainers.embedded.nets import image as embedded_image
from trainers.embedded.nets import samples as embedded_samples
from trainers.embedded.nets import video as embedded_video

#: people of train that each net learns from, and of val that it is measured on; two clips or pictures of each
PEOPLE, HELD_OUT = {"video": 400, "image": 1500}, {"video": 40, "image": 200}
#: these stay in float32: a batch norm's variances can be too small for float16, and they are few
_EXACT = (".bn.",)


def main(arguments: list[str] | None = None) -> int:
    """Render, train, measure, write. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainers.embedded.nets.train", description=__doc__)
    parser.add_argument("kind", choices=("video", "image"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, help="of the train split, in place of the usual number")
    parser.add_argument("--held-out", type=int, help="people of val, in place of the usual number")
    parser.add_argument("--steps", type=int, help="updates, in place of the usual number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=pool.cores(), help="processes that render (%(default)s)")
    options = parser.parse_args(arguments)
    people, held_out = (options.people or PEOPLE[options.kind]), (options.held_out or HELD_OUT[options.kind])
    if min(people, held_out, options.jobs, options.steps or 1) < 1:
        parser.error("--people, --held-out, --jobs and --steps are at least 1")
    pool.prepare()
    torch.set_num_threads(1)  # sums do not depend on the machine's cores
    changes = {"seed": options.seed} | ({"steps": options.steps} if options.steps else {})
    try:
        make = _video if options.kind == "video" else _image
        file, measured = make(options.folder, people, held_out, options.jobs, changes)
    except OSError as error:
        raise SystemExit(f"error: cannot write {options.folder}: {error.strerror}") from error
    except UserError as error:
        print(f"error: {error.problem}\n  fix: {error.fix}", file=sys.stderr)
        return 2
    print(json.dumps(measured, indent=1))
    print(f"{file}: {file.stat().st_size} bytes, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
