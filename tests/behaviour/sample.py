"""Folders that a version leaves, small enough to keep: later versions must go on with them.

One alignment of a tiny model with made-up weights: candidates and their scores, a selection, a training, a comparison.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tests.behaviour import material
from tests.behaviour.tree import Tree

NAME = "folders"
FRAMES, SIDE = 5, 32
#: what stands in the kept files for the folder in which they were made
ROOT = "@ROOT@"
SUITE = """
[suite]
name = "old"
primary = "frame.psnr"
seeds = [0]
"""
CASE = """
[[case]]
id = "{name}"
identity = "{name}"
split = "{split}"
driving = "{name}.mp4"
ground_truth = "driving"
pose = "{name}_pose.mp4"
reference = "{name}.png"
prompt = "a person"
frames = 5
fps = 12.0
size = [32, 32]
"""
BASE = """
[[model]]
name = "base"
kind = "wan_vace"
model = "model"
dtype = "fp32"
steps = 1
"""
ALIGN = """
method = "ipa"
[candidates]
per_case = 2
decode_dtype = "fp32"
[choose]
metric = "frame.psnr"
[masks]
mask = "none"
[adapter]
rank = 1
half = true
[loss]
hand_weight = 1.0
[train]
steps = 3
batch = 2
micro_batch = 1
lr = 0.01
warmup = 0
precision = "fp32"
[watch]
cases = 0
[evaluate]
seeds = 1
"""
#: written anew from the rest by whoever asks
REPORTS = ("report", "report.html", "report.json", "leaderboard.*", "*.csv", "*.lock")


def write(tree: Tree, folder: Path) -> None:
    """Make them with a source tree: an archive in ``folder`` with suite, configuration, model and the alignment."""
    made = tree.work / "old"
    made.mkdir()
    people(material.built_in(tree.package()), made)
    model(made / "model")
    # by relative paths, as a user would: a run's header remembers where its model lies
    tree.run("align", "align", "old/suite.toml", "-c", "old/align.toml", "-j", 1, "-o", "old/aligned")
    for path in made.rglob("*.json*"):
        path.write_text(path.read_text().replace(str(made), ROOT))
    kept = tree.work / "kept"
    shutil.copytree(made, kept, ignore=shutil.ignore_patterns(*REPORTS))
    folder.mkdir(parents=True, exist_ok=True)
    shutil.make_archive(str(folder / NAME), "zip", kept)


def people(suite: Path, folder: Path) -> None:
    """Four people of the built-in suite, a few small frames of each: two to train on, two to test on."""
    from PIL import Image

    text = SUITE
    names = sorted(path.stem for path in (suite / "driving").glob("*.mp4"))
    for name, split in zip(names, ("train", "train", "test", "test"), strict=False):
        person = re.sub(r"\W|_+", "", name)
        for kind, end in (("driving", ""), ("pose", "_pose")):
            shrink(suite / kind / f"{name}.mp4", folder / f"{person}{end}.mp4")
        Image.open(suite / "reference" / f"{name}.png").resize((SIDE, SIDE)).save(folder / f"{person}.png")
        text += CASE.format(name=person, split=split)
    (folder / "suite.toml").write_text(text + BASE)
    (folder / "align.toml").write_text(ALIGN)


def shrink(source: Path, target: Path) -> None:
    """The first frames of a clip, small."""
    import av

    with av.open(str(source)) as clip, av.open(str(target), "w") as out:
        stream: Any = out.add_stream("libx264", rate=12, options={"crf": "28", "x264-params": "mbtree=0"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.thread_count = 1
        for index, frame in zip(range(FRAMES), clip.decode(video=0), strict=False):
            image = frame.reformat(SIDE, SIDE, "rgb24").to_ndarray()
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts = index
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))


def model(folder: Path) -> None:
    """A pipeline whose weights repeat, so that it compresses to little: a checkpoint is known by its bytes."""
    from safetensors.numpy import load_file, save_file

    from tests import tiny_wan

    tiny_wan.save(folder)
    wave = (np.sin(np.arange(509) ** 2) * 0.1).astype(np.float32)
    for path in folder.rglob("*.safetensors"):
        weights = {name: np.resize(wave, value.shape) for name, value in load_file(path).items()}
        save_file(weights, path, {"format": "pt"})
