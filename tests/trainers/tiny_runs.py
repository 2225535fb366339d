"""Material to train on that is small enough for tests, and real processes that train. All weights are random."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ipa_bench import files, video
from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE, file_sha256, write_atomic
from ipa_bench.metrics import Measured
from ipa_bench.select import (
    Candidate,
    Candidates,
    Pairs,
    Rule,
    SelectedVideo,
    Selection,
    write_candidates,
    write_pairs,
    write_selection,
)
from ipa_bench.types import Case, MetricInfo, Preference
from tests import tiny_wan
from tests.clips import noise
from tests.forked import Server, Started
from trainers import config as train_config
from trainers import rewards
from trainers import run as training
from trainers.config import TrainConfig
from trainers.methods import MethodName, find
from trainers.methods.objective import Objective

FRAMES, SIDE = 5, 16
PEOPLE = ("anna", "bert", "cleo")
CHOSEN_BY = ("hand_quality@4",)
#: of both clips of each of them; the last two are equals
SCORES = ((0.9, 0.3), (0.5, 0.8), (0.4, 0.4))

SUITE = """
[[case]]
id = "{name}"
driving = "driving_{name}.mp4"
ground_truth = "driving"
pose = "pose_{name}.mp4"
mask = "mask_{name}.mp4"
identity = "{name}"
split = "{split}"
prompt = "this is {name}"
frames = 5
fps = 10.0
size = [16, 16]
"""

CONFIG = """
[data]
suite = "suite.toml"
selection = "{selection}"
mask = "exact"
[model]
model = "model"
dtype = "fp32"
[adapter]
rank = 4
[train]
steps = 6
batch = 2
lr = 0.01
warmup = 0
precision = "fp32"
save_every = 2
[watch]
cases = 0
"""

#: clips are made as training goes on: two rounds of two updates, each of two clips of two people
ONLINE: dict[str, dict[str, Any]] = {
    "data": {"selection": None},
    "rollouts": {"cases": 2, "per_case": 2, "steps": 3, "decode_dtype": "fp32"},
    "train": {"steps": 4},
    "reward": {"term": [{"reward": "toy:light"}]},
}


def light(case: Case, clips: Sequence[Path]) -> list[Measured]:
    """The lighter a clip, the better."""
    return [Measured(float(video.load(clip).frames.mean())) for clip in clips]


#: a line more of the table of rewards: one that costs nothing
TOY = rewards.Kind(
    "toy",
    "Light.",
    lambda what: rewards.Reward(
        MetricInfo(f"{what}@1", "0-255", "higher", "the test", "all else", family=("pixels",)), light
    ),
)

#: table -> key -> value
Changes = Mapping[str, Mapping[str, Any]]
NOTHING: Changes = MappingProxyType({})


def write(folder: Path) -> Path:
    """A model and a LoRA of it; a suite of three people to train on, one to watch and one to test; two clips of each.

    The first of them are selected, and the two of each person are a pair.
    """
    tiny_wan.save(folder / "model")
    file = tiny_wan.save_lora(folder / "lora") / LORA_FILE
    save_file({name: 0.2 * value for name, value in load_file(file).items()}, file)  # in the range of trained ones
    tables = []
    (folder / "clips").mkdir()
    people = [(name, "train") for name in PEOPLE] + [("vera", "val"), ("tess", "test")]
    for index, (name, split) in enumerate(people):
        for shift, kind in enumerate(("driving", "pose", "mask")):
            frames = noise(FRAMES, SIDE, SIDE, seed=10 * index + shift)
            video.encode(frames, folder / f"{kind}_{name}.mp4", 10, crf=10)
        for seed in range(2):
            made = noise(FRAMES, SIDE, SIDE, seed=10 * index + 5 + seed)
            video.encode(made, clip_of(folder, name, seed), 10, crf=10)
        tables.append(SUITE.format(name=name, split=split))
    (folder / "suite.toml").write_text("\n".join(tables))
    select(folder, PEOPLE)
    pair(folder)
    score(folder)
    return folder


def own_cache(folder: Path, material: Path) -> Path:
    """A cache in which nothing is known but how clips of ``material`` are encoded, once that was done anywhere."""
    (material / "encoded").mkdir(exist_ok=True)
    folder.mkdir()
    (folder / "encoded").symlink_to(material / "encoded")
    return folder


def clip_of(folder: Path, name: str, seed: int) -> Path:
    """The clip of a person that a model is said to have made."""
    return folder / "clips" / f"{name}_seed{seed}.mp4"


def select(folder: Path, names: tuple[str, ...], file: str = "selection.json", **replaced: Any) -> Path:
    """Select the first clip of each of these people; ``replaced`` are values of each row that differ."""
    rows = []
    for name in names:
        clip = clip_of(folder, name, 0)
        given = {"case": name, "video": str(clip), "sha256": file_sha256(clip), **replaced}
        rows.append(SelectedVideo(seed=0, model="tiny", scores={CHOSEN_BY[0]: 0.9}, **given))
    rule = Rule(CHOSEN_BY[0], "higher", top_k=1)
    write_selection(Selection(rule, CHOSEN_BY, tuple(rows), 2 * len(rows), 0), folder / file)
    return folder / file


def pair(folder: Path) -> None:
    """Pair both clips of everybody, strictly."""
    found = tuple(
        Preference(name, str(clip_of(folder, name, 0)), str(clip_of(folder, name, 1)), {CHOSEN_BY[0]: 0.9}, CHOSEN_BY)
        for name in PEOPLE
    )
    write_pairs(Pairs(found, found, len(PEOPLE)), folder / "pairs.json")


def score(folder: Path, scores: tuple[tuple[float, float], ...] = SCORES, **replaced: Any) -> Path:
    """Score both clips of everybody; ``replaced`` are values of each row that differ."""
    rows = []
    for name, pair_ in zip(PEOPLE, scores, strict=True):
        for seed, value in enumerate(pair_):
            clip = clip_of(folder, name, seed)
            given = {"video": str(clip), "sha256": file_sha256(clip), "latents": None, **replaced}
            rows.append(Candidate(name, seed, "tiny", score=value, **given))
    found = Candidates(CHOSEN_BY[0], "higher", CHOSEN_BY, tuple(rows), len(rows), 0)
    write_candidates(found, folder / "candidates.json")
    return folder / "candidates.json"


def config(folder: Path, method: MethodName, changes: Changes = NOTHING) -> TrainConfig:
    """The configuration for a method, with some values changed."""
    path = folder / f"{method}.toml"
    # two processes of one run may write it at once: neither reads half a file
    write_atomic(path, CONFIG.format(selection=find(method).file).encode())
    return train_config.changed(train_config.load(path), changes)


def job(folder: Path, method: MethodName, changes: Changes = NOTHING) -> training.Job:
    """A run, checked."""
    return training.prepare(config(folder, method, changes), method)


def log(out: Path) -> list[dict[str, Any]]:
    """The log of a run without what differs between two equal runs."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def state(out: Path) -> dict[str, Any]:
    """The saved state of a run."""
    content: dict[str, Any] = torch.load(out / "state.pt", weights_only=True)
    return content


def assert_same_state(one: Path, other: Path) -> None:
    """Two runs have the same weights, averages and moments to the bit."""
    a, b = state(one), state(other)
    assert a["step"] == b["step"]
    assert a["weights"].keys() == b["weights"].keys()
    for kind in ("weights", "average", *(["old"] if "old" in a else [])):
        assert all(torch.equal(a[kind][name], b[kind][name]) for name in a[kind])
    for key, values in a["optimizer"]["state"].items():
        for name, value in values.items():
            assert torch.equal(value, b["optimizer"]["state"][key][name]), name


def assert_same_gradients(one: Path, other: Path, method: MethodName) -> None:
    """Two runs of one step saw the same gradients, to rounding: Adam's first moments are a tenth of them.

    The weights themselves would not do: Adam makes a whole step of a gradient that is nothing but rounding.
    """
    # that of DPO is a small difference of two large ones
    share = 2e-3 if method == "dpo" else 1e-4
    a, b = (state(out)["optimizer"]["state"] for out in (one, other))
    largest = max(moments["exp_avg"].abs().max().item() for moments in a.values())
    assert largest > 1e-5
    for key, moments in a.items():
        torch.testing.assert_close(moments["exp_avg"], b[key]["exp_avg"], rtol=0, atol=share * largest)
    for mine, theirs in zip(log(one), log(other), strict=True):
        assert mine == pytest.approx(theirs, rel=share, abs=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# real processes


@dataclass(frozen=True)
class Order:
    """A run in a process of its own."""

    folder: str
    out: str
    method: MethodName
    changes: dict[str, dict[str, Any]]
    #: of the process
    environment: dict[str, str]
    #: after this step, or in the loss of this step, it makes a file ``paused`` in ``out`` and waits for its removal
    pause_after: int | None = None
    pause_in: int | None = None
    #: in this round, after this many clips
    pause_at: tuple[int, int] | None = None
    #: write down in ``out`` which clips this process has read whole
    reads: bool = False
    #: runs one after another, into ``out``, ``out-1``, ...
    runs: int = 1


class Training:
    """A process that trains."""

    def __init__(self, process: Started, out: Path) -> None:
        self._out = out
        self.signal, self.wait = process.signal, process.wait

    def until_paused(self) -> None:
        """Wait for the pause that was asked for."""
        self.until(lambda: (self._out / "paused").exists())

    def until(self, done: Any) -> None:
        """Wait until ``done()``, at most a minute."""
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, (self._out / "output.txt").with_suffix(".err").read_text()
            time.sleep(0.005)

    def go_on(self) -> None:
        """End the pause."""
        (self._out / "paused").unlink()


def start(server: Server, order: Order) -> Training:
    """Begin a run in a process of its own."""
    out = Path(order.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "paused").unlink(missing_ok=True)
    variables = {**os.environ, **order.environment}
    call = f"{__name__}:train_in_process"
    process = server.start([json.dumps(vars(order))], out, variables, out / "output.txt", call=call)
    return Training(process, out)


def train_in_process() -> int:
    """What a process does that :func:`start` began; its exit status."""
    return _train(Order(**json.loads(sys.argv[1])))


def _train(order: Order) -> int:
    out = Path(order.out)
    calls = 0

    def pause() -> None:
        (out / "paused").touch()
        while (out / "paused").exists():
            time.sleep(0.005)

    def tell(stage: str, done: int, *_: object) -> None:
        asked = order.pause_at and (f"round {order.pause_at[0]}", order.pause_at[1])
        if (stage == "train" and done == order.pause_after) or (stage, done) == asked:
            pause()

    plain = Objective.loss

    def loss(self: Objective, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls - 1 == order.pause_in:
            pause()
        return plain(self, *given)

    Objective.loss = loss  # type: ignore[method-assign]
    rewards.REWARDS = (*rewards.REWARDS, TOY)
    if order.reads:
        _note_reads(out)
    try:
        for index in range(order.runs):
            folder = out if index == 0 else out.with_name(f"{out.name}-{index}")
            training.train(job(Path(order.folder), order.method, order.changes), folder, tell=tell)
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        print(error)
        return 2
    return 0


def _note_reads(out: Path) -> None:
    """Every file that is hashed from here on gets a line of ``read-RANK.txt``."""
    files._FRESH = -1  # the material may have been made just now
    digest = hashlib.file_digest

    def noted(file: Any, kind: Any) -> Any:
        with (out / f"read-{os.environ['RANK']}.txt").open("a") as lines:
            lines.write(f"{Path(file.name).name}\n")
        return digest(file, kind)

    hashlib.file_digest = noted


def train(folder: Path, out: Path, method: MethodName, changes: Changes = NOTHING, **how: Any) -> Path:
    """The folder of the LoRA that a whole training makes."""
    made = training.train(job(folder, method, changes), out, **how)
    assert made is not None
    return made
