"""A run folder as the reports see it: models compared, floors and costs beside them. Scores nothing."""

from __future__ import annotations

from ipa_bench.cost import ledger as cost_ledger
from ipa_bench.harness import floor, sealed
from ipa_bench.metrics.table import infos_of
from ipa_bench.report.view import ReportView
from ipa_bench.store import RunStore
from ipa_bench.store import sets as set_results


def view(store: RunStore, price: float | None = None) -> ReportView:
    """Compare the models of a run: what every report is made from. ``price``: money for an hour of a device."""
    from ipa_bench.compare import leaderboard  # brings in scipy, which workers do without

    head, held = store.header, store.read()
    infos = infos_of(head.metrics)
    floors = floor.of_run(head, held.floors, infos)
    board = leaderboard(
        [score for record in held.records.values() for score in record.scores],
        identity_of={case.id: case.identity for case in head.cases},
        units=[(case.id, seed) for case in head.cases for seed in head.seeds],
        models=[model.name for model in head.models],
        metrics=infos,
        primary=head.primary,
        floors=floors,
        trained_on={m.name: m.trained_on for m in head.models},
    )
    return ReportView(
        header=head,
        leaderboard=board,
        records=held.records,
        infos=infos,
        floors=floors,
        details=store.read_details,
        sets=set_results.load(store.folder) or (),
        costs=cost_ledger.read(store.folder),
        price=price,
        damaged=held.damaged,
        seen_otherwise=held.seen_otherwise,
        sealed_uses=sealed.uses_of(store.folder),
    )
