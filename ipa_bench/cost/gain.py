"""What quality costs: gain for a device-hour of post-training, and models that no other beats at their cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ipa_bench.cost.amount import Amount
from ipa_bench.cost.ledger import Costs, PostTraining
from ipa_bench.cost.sheet import PhaseCost
from ipa_bench.types import Better, Comparison, Leaderboard

NOT_KNOWN = Amount(reason="not known")
NOT_MADE_HERE = Amount(reason="its videos were not made here")
#: a model and its base make clips at the same cost where neither takes more than this many times the other's time
SAME = 1.2


@dataclass(frozen=True)
class Gain:
    """Improvement on a metric over the base for one device-hour of post-training; above 0 is better."""

    base: str
    value: float
    #: 95 % interval of the paired difference, divided by the same hours; None where the difference has none
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ModelCost:
    """One model's cost beside its quality."""

    model: str
    #: device-seconds to make a clip, seconds of video made in a second, peak bytes, joules for a clip
    seconds: Amount
    realtime: Amount
    memory: Amount
    energy: Amount
    peak_share: Amount
    post_training: PostTraining | None
    #: of post-training; 0 for a model that others were made from
    device_hours: Amount
    gain: Gain | None
    #: why there is no gain
    no_gain: str | None
    #: processor-seconds to make a clip where no GPU did, and the share of the wall time in line for a core
    cpu: Amount
    crowded: Amount
    #: the model that it was made from, and how many times the time of that one it took to make a clip, where the two
    #: differ by more than :data:`SAME`: a LoRA makes clips at its base's cost
    unlike_base: tuple[str, float] | None = None


def model_costs(board: Leaderboard, costs: Costs, metric: str, better: Better) -> tuple[ModelCost, ...]:
    """The cost of every model of a leaderboard, in its order; gains on ``metric``, whose direction is ``better``."""
    found = []
    bases = {entry.base for entry in costs.post_training.values()}
    for row in board.rows:
        sheet = costs.of.get(row.model)
        made = None if sheet is None else sheet.phase("generate")
        trained = costs.post_training.get(row.model)
        gain, why = _gain(board, row.model, trained, metric, better)
        hours = Amount(0.0) if row.model in bases else NOT_KNOWN
        hours = hours if trained is None else trained.device_hours
        found.append(ModelCost(row.model, *_inference(made), trained, hours, gain, why, *_load(made)))
    by_name = {cost.model: cost for cost in found}
    return tuple(_beside_base(cost, by_name) for cost in found)


def _inference(made: PhaseCost | None) -> tuple[Amount, Amount, Amount, Amount, Amount]:
    if made is None:
        return (NOT_MADE_HERE,) * 5
    items = made.items.value
    if not items:
        return (Amount(reason=made.items.reason or "no clip was finished"),) * 5
    energy = made.energy if made.energy.value is None else Amount(made.energy.value / items)
    return Amount(made.process_seconds / items), made.video_per_second, made.memory, energy, made.peak_share


def _load(made: PhaseCost | None) -> tuple[Amount, Amount]:
    """Processor-seconds of a clip, and the share of the time in line for a core."""
    if made is None:
        return NOT_MADE_HERE, NOT_MADE_HERE
    if made.device_allocated.value is not None:
        return Amount(reason="it was made on a GPU"), made.crowded
    items, cpu = made.items.value, made.cpu
    return cpu if cpu.value is None or not items else Amount(cpu.value / items), made.crowded


def _beside_base(cost: ModelCost, by_name: Mapping[str, ModelCost]) -> ModelCost:
    """With a note where a clip of the model took other time than one of the model that it was made from."""
    base = by_name.get((cost.post_training.base if cost.post_training else None) or "")
    if base is None:
        return cost
    pairs = ((cost.cpu.value, base.cpu.value), (cost.seconds.value, base.seconds.value))
    for mine, theirs in pairs:  # processor time where both have it
        if mine is not None and theirs:
            ratio = mine / theirs
            return replace(cost, unlike_base=None if 1 / SAME <= ratio <= SAME else (base.model, ratio))
    return cost


def _gain(
    board: Leaderboard, model: str, trained: PostTraining | None, metric: str, better: Better
) -> tuple[Gain | None, str | None]:
    if trained is None:
        return None, None
    hours = trained.device_hours.value
    if hours is None:
        return None, f"device-hours: {trained.device_hours.reason}"
    if not hours:
        return None, "it took no device-hours"
    if trained.base is None:
        return None, "the model that it was made from is not in this run"
    pair = _difference(board.comparisons, metric, model, trained.base)
    if pair is None:
        return None, f"no video to compare with {trained.base}"
    sign = 1 if better == "higher" else -1
    delta, ends = pair
    if ends is None:
        return Gain(trained.base, sign * delta / hours, None, None), None
    low, high = sorted(sign * end / hours for end in ends)
    return Gain(trained.base, sign * delta / hours, low, high), None


def _difference(
    comparisons: Sequence[Comparison], metric: str, model: str, base: str
) -> tuple[float, tuple[float, float] | None] | None:
    """``model − base`` and the ends of its interval, whichever way round it was compared."""
    for pair in comparisons:
        if pair.metric != metric or {pair.model, pair.baseline} != {model, base} or pair.delta is None:
            continue
        sign = 1 if pair.model == model else -1
        ends = None if pair.low is None or pair.high is None else (sign * pair.low, sign * pair.high)
        return sign * pair.delta, ends
    return None


def front(points: Mapping[str, tuple[float, float]], better: Better) -> tuple[str, ...]:
    """Names on the Pareto front of (cost, quality), cheapest first: no other is both cheaper and better.

    Of equal points all are on it.
    """
    sign = 1 if better == "higher" else -1

    def beaten(name: str) -> bool:
        cost, quality = points[name]
        return any(c <= cost and sign * q >= sign * quality and (c, q) != (cost, quality) for c, q in points.values())

    return tuple(sorted((name for name in points if not beaten(name)), key=lambda name: points[name]))
