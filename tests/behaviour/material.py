"""Small input: two clips of real footage, and people of the built-in suite. Equal for all versions of the program."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

FRAMES = 24
#: clip, footage that it is cut from, first frame. The name before the underscores is the person's.
CUTS = (("anna__near", "hand_640x360.mp4", 24), ("bert__wave", "gesture_1280x720.mp4", 60))
SIZE = (256, 144)

SUITE = """
[suite]
name = "{name}"
seeds = [0]
"""

BASE = """
[[model]]
name = "base"
kind = "wan_vace"
model = "embedded"
lora = "lora/base.safetensors"
dtype = "fp32"
steps = 2
"""

THREE = """
[[model]]
name = "ground truth, re-encoded"
kind = "reencode"
crf = 18
{base}
[[model]]
name = "aligned"
kind = "wan_vace"
model = "embedded"
lora = "lora/aligned.safetensors"
dtype = "fp32"
steps = 2
trained_on = ["hand_quality@1"]
post_training = {{ device_hours = 0.5, base = "base", source = "a guess" }}
"""

ALIGN = """
method = "ipa"
[candidates]
per_case = 2
decode_dtype = "fp32"
[choose]
metric = "hand_quality"
[masks]
mask = "driving"
[adapter]
rank = 4
half = true
[loss]
beta = 60.0
[train]
steps = 3
batch = 2
micro_batch = 1
lr = 0.01
warmup = 0
precision = "fp32"
save_every = 1
draws = 1
[watch]
cases = 1
steps = 1
[evaluate]
seeds = 1
"""

#: Three steps, a state after each; each method is set up in another way. What a killed run had kept of the reference
#: model would depend on timing.
TRAIN = """
[data]
suite = "people.toml"
selection = "../../chosen/{selection}.json"
mask = "driving"
{data}
[model]
model = "embedded"
dtype = "fp32"
{model}
[adapter]
rank = 4
{adapter}
[train]
steps = 3
batch = 2
micro_batch = 1
lr = 0.01
warmup = 1
precision = "fp32"
save_every = 1
cache_reference = false
{train}
[watch]
cases = 1
steps = 1
every = {every}
"""
TRAININGS: dict[str, dict[str, Any]] = {
    "sft": {
        "selection": "best",
        "every": 2,
        "adapter": 'layers = "linear"\nstrength = 1.5',
        "train": 'schedule = "cosine"',
    },
    "ipa": {"selection": "best", "model": 'lora = "lora/base.safetensors"', "train": "ema = 0.9"},
    "dpo": {"selection": "pairs", "data": 'pairs = "all"', "adapter": "dropout = 0.1"},
}

#: a key that nobody knows, in each kind of file
MISSPELT = {
    "misspelt_suite.toml": "[suite]\nnme = 'x'\n",
    "misspelt_align.toml": "[choose]\nmetrc = 'hand_quality'\n",
    "misspelt_train.toml": "[data]\nsuite = 'people.toml'\nselection = 'x.json'\n[train]\nstep = 3\n",
}


def cut(source: Path, start: int, target: Path) -> None:
    """``FRAMES`` frames of footage as a small H.264 clip: the same bytes whenever it is done on one machine."""
    import av

    with av.open(str(source)) as footage, av.open(str(target), "w") as out:
        # one thread, and no macroblock trees: x264's choices would depend on more than the frames
        stream: Any = out.add_stream("libx264", rate=25, options={"crf": "12", "x264-params": "mbtree=0"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.thread_count = 1
        for index, frame in enumerate(footage.decode(video=0)):
            if index >= start + FRAMES:
                break
            if index >= start:
                image = frame.reformat(*SIZE, "rgb24").to_ndarray()
                picture = av.VideoFrame.from_ndarray(image, format="rgb24")
                picture.pts = index - start
                out.mux(stream.encode(picture))
        out.mux(stream.encode(None))


def built_in(package: Path) -> Path:
    """The folder of the built-in suite, wherever in the package it lies."""
    found = [path for path in package.rglob("suite.toml") if re.search(r'(?m)^name = "embedded"$', path.read_text())]
    if len(found) != 1:
        raise RuntimeError(f"{package} has {len(found)} built-in suites")
    return found[0].parent


def write(folder: Path, media: Path, package: Path) -> None:
    """Everything that the commands read: ``clips/`` and, in ``people/``, suites and configurations."""
    (folder / "clips").mkdir(parents=True)
    for name, source, start in CUTS:
        cut(media / source, start, folder / "clips" / f"{name}.mp4")
    suite, people = built_in(package), folder / "people"
    shutil.copytree(suite / "lora", people / "lora")
    cases = re.findall(r"(?m)^\[\[case\]\]\n(?:.+\n)+", (suite / "suite.toml").read_text())[:5]
    for name in re.findall(r'(?m)^(?:driving|pose|reference) = "(.+)"$', "".join(cases)):
        (people / name).parent.mkdir(exist_ok=True)
        shutil.copy(suite / name, people / name)
    # In the built-in suite all are of the test split; here two are trained on and one is watched.
    splits = ("train", "train", "test", "test", "val")
    short = [case.replace("frames = 17", "frames = 9") for case in cases]
    roles = [case.replace('split = "test"', f'split = "{s}"') for case, s in zip(short, splits, strict=True)]
    texts = {
        "three.toml": SUITE.format(name="three") + "\n" + "\n".join(cases[:3]) + THREE.format(base=BASE),
        "people.toml": SUITE.format(name="people") + "\n" + "\n".join(roles) + BASE,
        "align.toml": ALIGN,
        **MISSPELT,
    }
    for method, changes in TRAININGS.items():
        texts[f"{method}.toml"] = TRAIN.format(
            **{"data": "", "model": "", "adapter": "", "train": "", "every": 0} | changes
        )
    for name, text in texts.items():
        (people / name).write_text(text)
