"""The tables of votes.md: reward models on groups that nothing was chosen on, and ones from careless votes.

    python reports/identity/votes.py runs/pairs.npz model=embedded "30 % flipped=runs/flipped/model"

Pairs of all kinds are rendered once into the file named (minutes of a core). NAME=FOLDER as ``ipa-bench reward train``
writes it (its ``model``); ``embedded`` is the one that ships.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ipa_bench.embedded.group.faults import FAULTS
from ipa_bench.types import Float64
from trainers.reward_model import baselines, data, file, small
from trainers.reward_model.backbones import BACKBONES
from trainers.reward_model.data import Example
from trainers.rewards.ties import log_chances

#: the first groups are those that the weight of ties was chosen on
CHOSEN_ON, GROUPS = 16, 80
HEAD = """\
# The reward model on people that nothing was chosen on, and from careless votes

`python reports/identity/votes.py`: {groups} groups of two people, whom neither the model nor any choice saw,
a pair of every kind each. The columns beside the model that ships are trained by the same configuration
(`trainers/configs/reward-embedded.toml`) with the change that is named, once each; *colours* is a rule without
training. *Accuracy*: the better clip has the higher score. *Preferred*: the mean chance that the clean clip wins, of
those in which a clip wins, where both should tie, ± 95 % over groups (.50 is right, .55 the limit).

"""


def pairs(cache: Path) -> list[Example]:
    """Every kind's pair of each group after those of the card."""
    made = data.synthetic_examples(cache, "val", CHOSEN_ON + GROUPS, FAULTS, small.FRAMES, small.HEIGHT, progress=_told)
    return made[CHOSEN_ON * len(FAULTS) :]


def _told(what: str, done: int, of: int) -> None:
    print(f"{what}: {done}/{of}", file=sys.stderr, flush=True)


def differences(argument: str, examples: Sequence[Example]) -> tuple[str, Float64, float]:
    """NAME=FOLDER -> name, score of A less that of B, ln k: 0 of a model that knows no ties."""
    name, _, folder = argument.partition("=")
    at = file.SHIPPED if folder == "embedded" else Path(folder)
    card, tensors = file.read(at)
    scores = BACKBONES[card.backbone].opened(card, tensors, at)
    a, b = (np.array(scores([getattr(each, side) for each in examples])) for side in ("a", "b"))
    return name, a - b, card.log_k if card.trained["config"]["train"]["ties"] else 0.0


def preferred(difference: Float64, log_k: float) -> Float64:
    """The chance that A wins, of those in which one of the two wins."""
    chances = log_chances(torch.from_numpy(difference), torch.tensor(log_k, dtype=torch.float64)).exp().numpy()
    shares: Float64 = chances[:, 0] / (chances[:, 0] + chances[:, 2])
    return shares


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def accuracies(names: Sequence[str], of: Mapping[str, Float64], kinds: Sequence[str]) -> str:
    """Kinds in rows, and their mean."""
    shares = {kind: [(each[np.array(names) == kind] > 0).mean() for each in of.values()] for kind in kinds}
    means = np.mean(list(shares.values()), axis=0)
    rows = [[f"`{kind}`", *(f"{share:.2f}" for share in found)] for kind, found in shares.items()]
    return table(["accuracy", *of], [*rows, ["**mean**", *(f"**{mean:.3f}**" for mean in means)]])


def main(arguments: Sequence[str]) -> None:
    examples = pairs(Path(arguments[0]))
    names = [each.fault for each in examples]
    models = [differences(each, examples) for each in arguments[1:]]
    colours = (np.array(baselines.histogram([getattr(each, side) for each in examples])) for side in ("a", "b"))
    of = {name: difference for name, difference, _ in models} | {"colours": np.subtract(*colours)}
    print(HEAD.format(groups=len(examples) // len(FAULTS)), end="")
    for title, held_out in (("Kinds that it was trained on", False), ("Kinds that it never saw", True)):
        kinds = [fault.name for fault in FAULTS if fault.family != "nuisance" and fault.held_out == held_out]
        print(f"## {title}\n\n{accuracies(names, of, kinds)}")
    rows = []
    for fault in FAULTS:
        if fault.family == "nuisance":
            these = np.array(names) == fault.name
            found = [preferred(difference, log_k)[these] for _, difference, log_k in models]
            mark = " (never seen)" if fault.held_out else ""
            cells = [f"{each.mean():.3f} ± {1.96 * each.std(ddof=1) / len(each) ** 0.5:.3f}" for each in found]
            rows.append([f"`{fault.name}`{mark}", *cells])
    print("## What must tie\n\n" + table(["preferred", *(name for name, _, _ in models)], rows))


if __name__ == "__main__":
    main(sys.argv[1:])
