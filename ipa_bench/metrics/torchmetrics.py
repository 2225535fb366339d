"""One adapter that turns any metric of the table into a torchmetrics module."""

from __future__ import annotations

import torch
from torchmetrics import Metric as TorchMetric

from ipa_bench.metrics.base import Evidence, Metric
from ipa_bench.metrics.table import find


class EvidenceMean(TorchMetric):
    """Mean of one metric over videos; ``update(evidence)`` once a video, ``compute()`` a float64 scalar.

    Videos without a value are counted in ``unscored`` and left out; with no value at all ``compute`` gives NaN, the
    only "unknown" that torchmetrics knows. States are summed across processes.
    """

    full_state_update = False
    total: torch.Tensor
    scored: torch.Tensor
    unscored: torch.Tensor

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("scored", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("unscored", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """The metric's direction."""
        return self._metric.info.better == "higher"

    def update(self, evidence: Evidence) -> None:
        """Take one video's evidence (:meth:`ipa_bench.scorer.Scorer.evidence`)."""
        measured = self._metric.measure(evidence)
        if measured.value is None:
            self.unscored += 1
        else:
            self.total += measured.value
            self.scored += 1

    def compute(self) -> torch.Tensor:
        """Mean over the scored videos."""
        return self.total / self.scored


def as_torchmetric(metric: str | Metric) -> EvidenceMean:
    """A torchmetrics module for a metric, by name (with or without its version, the composite among them) or itself.

    Raises UserError for an unknown name.

    >>> float(as_torchmetric("hand.recall").scored)
    0.0
    """
    return EvidenceMean(find(metric) if isinstance(metric, str) else metric)
