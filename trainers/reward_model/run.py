"""``ipa-bench reward train``: data, training, measurements on other people, the folder in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ipa_bench.embedded.group.faults import FAULTS
from ipa_bench.engine import processes as pool
from ipa_bench.errors import UserError
from ipa_bench.types import Float64
from trainers.embedded.nets.loop import Descent, Tell
from trainers.preferences import outcomes, read_comparisons, read_votes, synthetic
from trainers.reward_model import baselines, data, file
from trainers.reward_model.backbones import BACKBONES, Scores, Size
from trainers.reward_model.config import RewardModelConfig, VotesConfig
from trainers.reward_model.data import Example
from trainers.reward_model.measure import Kind, Measured, measure

#: faults that a model is trained on, those held out, and what must tie
TRAINED = tuple(f.name for f in FAULTS if f.family != "nuisance" and not f.held_out)
HELD_OUT = tuple(f.name for f in FAULTS if f.family != "nuisance" and f.held_out)
NUISANCES = tuple(f.name for f in FAULTS if f.family == "nuisance")


@dataclass(frozen=True, eq=False)
class Data:
    """What to train on and what to try the model on, which share no person."""

    train: list[Example]
    held_out: list[Example]
    #: of people's votes: how many, by how many, how far they agree; None where there are none
    trust: outcomes.Trust | None


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    folder: Path
    #: of the model and of the baselines, on people that none of them saw
    measured: dict[str, Measured]
    trust: outcomes.Trust | None


def gathered(config: RewardModelConfig, here: Path, out: Path, jobs: int, progress: pool.Progress) -> Data:
    """The examples of a configuration that lies in ``here``. Raises UserError for votes that teach nothing."""
    backbone = BACKBONES[config.backbone]
    frames = backbone.frames(config)
    train: list[Example] = []
    held_out: list[Example] = []
    trust = None
    if config.votes is not None:
        train, held_out, trust = _of_people(config.votes, config.seed, here, frames, backbone.size, progress)
    if config.synthetic is not None:
        make = partial(data.synthetic_examples, frames=frames, height=backbone.height, jobs=jobs, progress=progress)
        sizes = config.synthetic.groups, config.synthetic.held_out
        train = train + make(out / "train.npz", "train", sizes[0], synthetic.TRAINED)
        held_out = held_out + make(out / "held_out.npz", "val", sizes[1], FAULTS)
    return Data(data.flipped(train, config.train.flipped, config.seed), held_out, trust)


def _of_people(
    config: VotesConfig, seed: int, here: Path, frames: int,
    shrunk: Size, progress: pool.Progress,
) -> tuple[list[Example], list[Example], outcomes.Trust]:  # fmt: skip
    source = here / config.comparisons
    every = read_comparisons(source).comparisons
    votes = read_votes([here / path for path in config.votes], [each.id for each in every]).votes
    shares = outcomes.shares(every, votes)
    voted = [each for each in every if each.id in shares]
    train, tried = outcomes.split(voted, config.held_out, seed)
    examples = data.of_votes(source.parent, voted, shares, frames, shrunk, progress)
    return [examples[i] for i in train], [examples[i] for i in tried], outcomes.trust(votes)


def train(config: RewardModelConfig, here: Path, out: Path, jobs: int, progress: pool.Progress, tell: Tell) -> Trained:
    """Everything from a configuration to a folder that ``video:FOLDER`` names; goes on where it stopped."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}", "choose a folder that can be written to") from None
    found = gathered(config, here, out, jobs, progress)
    how = Descent(config.train.steps, config.train.batch, config.train.lr, seed=config.seed)
    backbone = BACKBONES[config.backbone]
    model = backbone.fitted(config, found.train, how, out / "state.pt", tell)
    measured = evaluated(model.scores, model.log_k if config.train.ties else None, found.held_out)
    card: dict[str, Any] = {
        "name": config.name,
        "backbone": config.backbone,
        "frames": backbone.frames(config),
        "log_k": model.log_k,
        "options": model.options,
        "trained": {
            "comparisons": len(found.train),
            "config": config.model_dump(mode="json"),
            "held_out": {name: asdict(each) for name, each in measured.items()},
        },
    }
    folder = file.write(out / "model", card, {n: t.detach().float() for n, t in model.tensors.items()})
    return Trained(folder, measured, found.trust)


def evaluated(scores: Scores, log_k: float | None, examples: Sequence[Example]) -> dict[str, Measured]:
    """The model and the baselines on the same pairs."""
    shares = np.array([each.shares for each in examples])
    faults = [each.fault or "votes" for each in examples]
    differences: dict[str, Float64] = {"model": _differences(scores, examples)}
    differences |= {name: _differences(rule, examples) for name, rule in baselines.BASELINES.items()}
    return {
        name: measure(difference, shares, faults, log_k if name == "model" else None)
        for name, difference in differences.items()
    }


def _differences(scores: Scores, examples: Sequence[Example]) -> Float64:
    a, b = scores([each.a for each in examples]), scores([each.b for each in examples])
    return np.array(a, np.float64) - np.array(b, np.float64)


def summary(measured: Measured) -> dict[str, float | None]:
    """Accuracy on kinds that it was trained on, on held-out kinds, and how far what must tie is preferred."""
    own, held = measured.of(TRAINED), measured.of(HELD_OUT)
    people = measured.of(("votes",))
    ties: list[Kind] = [kind for kind in measured.kinds if kind.name in NUISANCES]
    preferred = [kind.preferred for kind in ties if kind.preferred is not None]
    return {
        "votes": people[0] if people[1] else None,
        "trained faults": own[0] if own[1] else None,
        "held-out faults": held[0] if held[1] else None,
        "nuisance preferred": float(np.mean(preferred)) if preferred else None,
        "nuisance higher": float(np.mean([kind.higher for kind in ties])) if ties else None,
        "calibration": measured.calibration,
    }
