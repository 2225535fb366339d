"""What a shape that was not measured would take, from those that were: time against arithmetic, memory against tokens.

    seconds = a + b · FLOPs + c · tokens        a, b, c ≥ 0, least squares on relative errors

a is what a step takes however small the clip is, b the inverse of the machine's speed at this work, c what is bound by
memory and grows with the clip and not with its square (norms, activations, the optimizer is in a). FLOPs are those of
``cost_flops``. With two shapes c is 0, with one also a: fewer points carry fewer numbers. That no coefficient is
negative keeps an extrapolation between "grows as the tokens" and "grows as the arithmetic".
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

from ipa_bench.cost import Amount
from ipa_bench.types import Float64
from trainers.cost_sheet.plan import Cell, Clip
from trainers.cost_sheet.sheet import Estimate, Result

#: measurements that leaving one out makes sense with
_CHECKED = 3
_TOO_FEW = Amount(reason="too few shapes to leave one out")


@dataclass(frozen=True)
class Point:
    """One measured shape."""

    flops: float
    tokens: float
    #: what is explained: seconds or bytes, above 0
    value: float


@dataclass(frozen=True)
class Fit:
    """``value = constant + per_flop · flops + per_token · tokens``, no coefficient negative."""

    constant: float
    per_flop: float
    per_token: float

    def at(self, flops: float, tokens: float) -> float:
        """The value at a shape."""
        return self.constant + self.per_flop * flops + self.per_token * tokens


def fit_time(points: Sequence[Point]) -> Fit:
    """Seconds by FLOPs; by a constant too from two points on, and by tokens from three on.

    Raises ``ValueError`` without points, or for one that is not positive.
    """
    return _fit(points, [_flops, _one, _tokens])


def fit_memory(points: Sequence[Point]) -> Fit:
    """Bytes by a constant (weights, optimizer), and by tokens (activations) from two points on. Raises as above."""
    return _fit(points, [_one, _tokens])


def _one(_: Point) -> float:
    return 1.0


def _flops(point: Point) -> float:
    return point.flops


def _tokens(point: Point) -> float:
    return point.tokens


def _fit(points: Sequence[Point], kinds: Sequence[Callable[[Point], float]]) -> Fit:
    if not points or any(not (p.value > 0 and p.flops > 0 and p.tokens > 0) for p in points):
        raise ValueError(f"a fit needs positive points, got {points}")
    different = len({(p.flops, p.tokens) for p in points})
    used = list(kinds[:different])
    columns: Float64 = np.array([[kind(p) / p.value for kind in used] for p in points], np.float64)
    scale = columns.max(0)
    found, _ = nnls(columns / scale, np.ones(len(points)))
    by = dict(zip(used, (found / scale).tolist(), strict=True))
    return Fit(by.get(_one, 0.0), by.get(_flops, 0.0), by.get(_tokens, 0.0))


def left_out(points: Sequence[Point]) -> Amount:
    """Largest relative error of a point's time predicted from all others; a reason below three shapes."""
    if len({(p.flops, p.tokens) for p in points}) < _CHECKED:
        return _TOO_FEW
    errors = []
    for place, point in enumerate(points):
        others = [*points[:place], *points[place + 1 :]]
        errors.append(abs(fit_time(others).at(point.flops, point.tokens) / point.value - 1))
    return Amount(max(errors))


def estimate(cell: Cell, flops: int, tokens: int, results: Iterable[Result]) -> Estimate:
    """What ``cell`` would take, from the measured results that differ from it in shape and batch alone.

    ``flops`` and ``tokens`` are the cell's own, by formula. An estimate without measurements has reasons, no numbers.
    """
    measured = [r for r in results if r.state == "measured" and _kind(r.cell) == _kind(cell)]
    used = [r for r in measured if r.flops and r.tokens]
    names = tuple(f"{r.cell.clip} x {r.cell.batch}" for r in used)
    if not used:
        nothing = Amount(reason="nothing like it was measured")
        return Estimate(cell, nothing, nothing, nothing, (), nothing, 0.0)
    points = [Point(float(r.flops or 0), float(r.tokens or 0), statistics.median(r.seconds)) for r in used]
    seconds = fit_time(points).at(flops, tokens)
    return Estimate(
        cell,
        Amount(seconds),
        _clip_seconds(cell, seconds, used),
        _memory(tokens, used),
        names,
        left_out(points),
        flops / max(p.flops for p in points),
    )


def _kind(cell: Cell) -> Cell:
    """The cell without what an estimate may bridge."""
    return replace(cell, clip=Clip(1, 1, 1), batch=1, warmup=0, repeats=0, steps=0, memory=None)


def _pixels(cell: Cell) -> float:
    return float(cell.clip.height * cell.clip.width * cell.clip.frames)


def _clip_seconds(cell: Cell, step: float, used: Sequence[Result]) -> Amount:
    """Denoising by the estimated step, and decoding by the number of pixels: it is convolutions."""
    decoded = [Point(_pixels(r.cell), _pixels(r.cell), statistics.median(r.decode)) for r in used if r.decode]
    if cell.trains or not decoded:
        return Amount(reason="no clip is made" if cell.trains else "no decoding was measured")
    pixels = _pixels(cell)
    return Amount(cell.steps * step / cell.batch + fit_memory(decoded).at(pixels, pixels))


def _memory(tokens: int, used: Sequence[Result]) -> Amount:
    found = [
        Point(float(r.tokens or 0), float(r.tokens or 0), r.memory.value) for r in used if r.memory.value is not None
    ]
    if len({p.tokens for p in found}) < 2:
        return Amount(reason="memory was measured at one shape only")
    return Amount(fit_memory(found).at(tokens, tokens))
