"""What a report is made from, and the few readings of it that every format shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from ipa_bench.cost.ledger import Costs
from ipa_bench.store import Details, RunHeader, Unit, UnitRecord
from ipa_bench.store.sets import SetResult
from ipa_bench.types import Comparison, Leaderboard, LeaderboardRow, MetricInfo, Score

#: Metrics that say most in the least room, in this order, where the run has them.
PREFERRED = ("hand.keypoint_error", "hand.pck10", "hand.recall", "hand.jitter", "rest.psnr")

#: With fewer identities than this an interval is more a warning than a measurement.
FEW_IDENTITIES = 5
#: pairs of models that a warning names; more are counted
NAMED = 3
#: with more models than this a text shows each against the best and against its base, and not against every other
EVERY_PAIR = 3
#: so many models that were made from one base are shown against one another even then
SIBLINGS = 3


def no_details(unit: Unit) -> Details | None:
    """The ``details`` of a run that kept none."""
    return None


@dataclass(frozen=True)
class ReportView:
    """A finished run, as the reports see it. Reports are pure functions of this (and of the videos it names)."""

    header: RunHeader
    leaderboard: Leaderboard
    records: Mapping[Unit, UnitRecord]
    infos: tuple[MetricInfo, ...]
    #: metric id -> |difference| that a harmless re-encode makes
    floors: Mapping[str, float] = field(default_factory=dict)
    #: per-frame data of a unit, read when asked for; None where the run kept none
    details: Callable[[Unit], Details | None] = no_details
    #: distances between sets of videos
    sets: tuple[SetResult, ...] = ()
    #: what the run and its models cost
    costs: Costs = field(default_factory=Costs)
    #: money for an hour of a device; None: no prices
    price: float | None = None
    #: lines of the run's scores that could not be read
    damaged: int = 0
    #: videos whose scores are by other observers than the run's: they are left out
    seen_otherwise: int = 0
    #: evaluations of a sealed test set so far, this one among them
    sealed_uses: tuple[str, ...] = ()

    def info(self, metric: str) -> MetricInfo | None:
        """What is known about ``metric``; None for an id this version does not know."""
        return next((info for info in self.infos if info.id == metric), None)

    def units(self) -> Iterator[tuple[Unit, UnitRecord | None]]:
        """Every video the run should have, in header order, with its record where there is one."""
        for case in self.header.cases:
            for seed in self.header.seeds:
                for model in self.header.models:
                    unit = (case.id, seed, model.name)
                    yield unit, self.records.get(unit)

    def scores(self) -> list[Score]:
        """Every score, sorted by case, seed, model, metric."""
        every = [score for record in self.records.values() for score in record.scores]
        return sorted(every, key=lambda score: (score.case, score.seed, score.model, score.metric))


#: what a mark on a number means
TRAINED = "the model was trained on this metric, or on one that looks through the same networks"


def ranked_because(view: ReportView) -> str:
    """Why the primary metric can rank models that were trained on others; empty where none was, or where it cannot."""
    board = view.leaderboard
    taught = {row.model: row.trained_on for row in board.rows if row.trained_on}
    if not taught or any(board.primary in row.no_evidence for row in board.rows):
        return ""
    on = ", ".join(dict.fromkeys(metric for metrics in taught.values() for metric in metrics))
    return (
        f"Ranked on {board.primary}, which looks through other networks than what {', '.join(taught)} "
        f"{'was' if len(taught) == 1 else 'were'} trained on: {on}."
    )


def base_name(metric: str) -> str:
    """``hand.pck10@1`` -> ``hand.pck10``."""
    return metric.partition("@")[0]


def headline(view: ReportView, limit: int) -> tuple[str, ...]:
    """At most ``limit`` metric ids: the primary, then the preferred ones, then as the run lists them; those without a
    single value last."""
    board = view.leaderboard
    preferred = [metric for name in PREFERRED for metric in board.metrics if base_name(metric) == name]
    valued = {metric for row in board.rows for metric, cell in row.cells.items() if cell.mean is not None}
    known = [metric for metric in [*preferred, *board.metrics] if metric in valued]
    return tuple(dict.fromkeys([board.primary, *known, *preferred, *board.metrics]))[:limit]


def metric_order(view: ReportView) -> tuple[str, ...]:
    """Every metric of the leaderboard, the headline ones first."""
    return headline(view, len(view.leaderboard.metrics) + 1)


def comparisons(view: ReportView) -> tuple[Comparison, ...]:
    """The paired differences; those with an upper bound come last, for nobody is surprised by them."""
    bounds = upper_bounds(view)
    return tuple(sorted(view.leaderboard.comparisons, key=lambda c: bool({c.model, c.baseline} & bounds)))


def primary_comparisons(view: ReportView) -> tuple[Comparison, ...]:
    """The paired differences on the primary metric."""
    return tuple(c for c in comparisons(view) if c.metric == view.leaderboard.primary)


def told_pairs(view: ReportView) -> frozenset[frozenset[str]]:
    """The pairs of models that a text has room for: all of a few; of many, each with the best and with its base.

    Where few were made from one base, they are told apart too: what was aligned, and its control.
    """
    names = [row.model for row in view.leaderboard.rows]
    if len(names) <= EVERY_PAIR:
        return frozenset(frozenset((one, other)) for one in names for other in names if one != other)
    bounds = upper_bounds(view)
    best = next((name for name in names if name not in bounds), names[0])
    bases = {model: entry.base for model, entry in view.costs.post_training.items() if entry.base is not None}
    made = {base: [name for name in names if bases.get(name) == base] for base in bases.values()}
    siblings = [each for each in made.values() if len(each) <= SIBLINGS]
    pairs = [(name, other) for name in names for other in (best, bases.get(name)) if other and other != name]
    pairs += [(one, other) for each in siblings for one, other in combinations(each, 2)]
    return frozenset(map(frozenset, pairs))


def told(view: ReportView, every: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """Those of the pairs that :func:`told_pairs` has."""
    pairs = told_pairs(view)
    return tuple(each for each in every if frozenset((each.model, each.baseline)) in pairs)


def correction(view: ReportView) -> str:
    """What the paired differences' p-values are corrected for, as a sentence."""
    tests = sum(pair.p is not None for pair in primary_comparisons(view))
    if tests < 2:
        return "Holm corrects every metric but the primary one over the metrics of the pair."
    return f"Holm corrects the primary metric over its {tests} pairs of models, any other over the metrics of its pair."


def set_results(view: ReportView) -> tuple[SetResult, ...]:
    """Distances between sets, without differences from an upper bound: its own distance says as much."""
    bounds = upper_bounds(view)
    return tuple(r for r in view.sets if not (r.baseline and {r.model, r.baseline} & bounds))


def trained_on(view: ReportView) -> dict[str, tuple[str, ...]]:
    """model -> metric ids that it was trained on."""
    return {model.name: model.trained_on for model in view.header.models}


def upper_bounds(view: ReportView) -> frozenset[str]:
    """Models that are the ground truth in disguise."""
    return frozenset(model.name for model in view.header.models if model.kind == "reencode")


def tied(view: ReportView, row: LeaderboardRow) -> bool:
    """Whether another model shares this row's rank."""
    return sum(other.rank == row.rank for other in view.leaderboard.rows) > 1


def size_of_run(view: ReportView) -> str:
    """``3 models, 6 cases of 2 identities, 1 seed``."""
    header = view.header
    identities = len({case.identity or case.id for case in header.cases})
    return (
        f"{_count(len(header.models), 'model')}, {_count(len(header.cases), 'case')} of "
        f"{_count(identities, 'identity', 'identities')}, {_count(len(header.seeds), 'seed')}"
    )


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def rank_text(view: ReportView, row: LeaderboardRow) -> str:
    """``1``, or ``1=`` where models share the rank."""
    return f"{row.rank}=" if tied(view, row) else str(row.rank)


def inside_floor(comparison: Comparison) -> bool:
    """Whether a harmless re-encode makes a difference at least as large."""
    return comparison.delta is not None and comparison.floor is not None and abs(comparison.delta) <= comparison.floor


def warnings(view: ReportView) -> tuple[str, ...]:
    """What a reader must know before believing the table; each says what to do about it."""
    found = [*_identity_warnings(view), *_missing_warnings(view), *_damaged_warnings(view), *_unscored_warnings(view)]
    found += [f"Costs are not complete: {problem}." for problem in view.costs.problems]
    board = view.leaderboard
    for row in board.rows:
        if board.primary in row.no_evidence:
            how = "" if board.primary in row.trained_on else "a metric that looks through the same networks as "
            found.append(
                f"{row.model} was trained on {how}{board.primary}, the primary metric: "
                "the evidence for it is the other metrics."
            )
    return (*found, *_floor_warnings(view))


def _floor_warnings(view: ReportView) -> Iterator[str]:
    """Pairs that a re-encode of their videos could make differ; many of them in one sentence."""
    pairs, primary = primary_comparisons(view), view.leaderboard.primary
    inside = [pair for pair in pairs if inside_floor(pair)]
    said = (
        f"differ on {primary} by less than a re-encode of the same video does: they are not ranked against each other"
    )
    if len(inside) > NAMED:
        yield f"{len(inside)} of {len(pairs)} pairs of models {said}."
        return
    for pair in inside:
        yield f"{pair.model} and {pair.baseline} {said}."


def _identity_warnings(view: ReportView) -> Iterator[str]:
    n = len({case.identity or case.id for case in view.header.cases})
    if not view.leaderboard.rows:
        yield "No model has a record yet: run the suite, then write the report again."
    elif n < 2:
        yield "One identity: no interval can be given. Add cases of other people."
    elif n < FEW_IDENTITIES:
        yield f"Only {n} identities: intervals are wide and only large differences show. Add cases of other people."


def _missing_warnings(view: ReportView) -> Iterator[str]:
    expected: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    for (_, _, model), record in view.units():
        expected[model] += 1
        missing[model] += record is None or record.video is None
    for model, count in missing.items():
        if count:
            yield (
                f"{model}: {count} of {expected[model]} videos are missing. "
                "Means are over the videos that exist; compare the paired differences instead."
            )


def _damaged_warnings(view: ReportView) -> Iterator[str]:
    """Records that do not count. A stopped run may leave half a line; what it held was scored again, unless its video
    has no record."""
    if view.damaged and any(record is None for _, record in view.units()):
        lines = _count(view.damaged, "line of its scores is", "lines of its scores are")
        yield f"The run folder is damaged: {lines} not readable. Run the suite again: what they held is scored again."
    if view.seen_otherwise:
        videos = _count(view.seen_otherwise, "video was", "videos were")
        yield (
            f"{videos} last looked at by observers of an earlier version: what they say is left out. "
            "Run the suite again."
        )


def _unscored_warnings(view: ReportView) -> Iterator[str]:
    """Metrics without a single value, gathered by reason (absent weights silence several at once)."""
    reasons: dict[str, Counter[str]] = {}
    scored: set[str] = set()
    for record in view.records.values():
        for score in record.scores:
            if score.reason is None:
                scored.add(score.metric)
            else:
                reasons.setdefault(score.metric, Counter())[score.reason] += 1
    silent: dict[str, list[str]] = {}
    for metric in view.leaderboard.metrics:
        if metric in reasons and metric not in scored:
            silent.setdefault(reasons[metric].most_common(1)[0][0], []).append(metric)
    for reason, metrics in silent.items():
        yield f"Not scored on any video: {', '.join(metrics)} ({reason})."
