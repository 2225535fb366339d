"""Looking at a model while it is trained: flow error and scored samples of held-out cases, and an alarm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ipa_bench.compare import difference
from ipa_bench.errors import Unscorable
from ipa_bench.files import file_sha256
from ipa_bench.metrics import PART_IDS, find
from ipa_bench.metrics.table import is_evidence
from ipa_bench.models.generator import Generator
from ipa_bench.models.specs import BaseSpec
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.pose import OBSERVER_ID as DRAWN_BY
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case
from trainers import flow
from trainers import state as states
from trainers.config import LossConfig, WatchConfig
from trainers.data.clips import Clip
from trainers.data.encode import Batch, Encoder
from trainers.methods.draw import Draw, drawn
from trainers.policy import Policy
from trainers.ranks import Ranks

LOG = "watch.jsonl"
#: noise levels that the held-out flow error is measured at
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
#: what samples are scored by: hands, and what alignment may cost elsewhere
METRICS = (
    "hand_quality",
    *PART_IDS,
    "hand.recall",
    "hand.keypoint_error",
    "hand.pck10",
    "hand.psnr",
    "rest.psnr",
    "frame.psnr",
)

#: (case, seed) -> value, for each metric
Values = dict[str, dict[tuple[str, int], float]]


class Watch:
    """Held-out cases, looked at before, during and after training; each look is one line of ``watch.jsonl``."""

    def __init__(
        self, policy: Policy, encoder: Encoder, cases: Sequence[Case], config: WatchConfig, spec: BaseSpec,
        by: Sequence[str], folder: Path, ranks: Ranks | None = None,
    ) -> None:  # fmt: skip
        """``by``: ids of the metrics that chose the training clips: those prove nothing.

        ``ranks``: the processes that share the cases; one alone where not given.
        """
        self._policy, self._encoder, self._cases, self._config = policy, encoder, cases, config
        self._by = {metric.partition("@")[0] for metric in by}
        self._spec, self._folder = spec.model_copy(update={"lora": None, "keep_latents": False}), folder
        self._log, self._ranks = folder / LOG, ranks or Ranks()
        self._scorer: Scorer | None = None

    def look(self, step: int) -> dict[str, Any]:
        """Measure the model as it is now, unless that was done at this step before; gives the line of the log.

        Every process has to look: each measures its share of the cases, and the first writes the line.
        """
        known = self._ranks.all({line["step"]: line for line in _lines(self._log)})[0]
        if step in known or not self._cases:
            return known.get(step, {})
        training = self._policy.training
        self._policy.train(False)
        try:
            line: dict[str, Any] = {"step": step, "flow": self._flow(), "scores": self._samples(step)}
        finally:
            self._policy.train(training)
        line["alarm"] = alarm(known.get(0, line)["scores"], line["scores"], self._by, self._identities())
        if self._ranks.index == 0:
            states.append(self._log, line)
        return line

    def forget(self) -> None:
        """Remove what was seen before."""
        self._log.unlink(missing_ok=True)
        shutil.rmtree(self._folder / "samples", ignore_errors=True)

    @torch.no_grad()
    def _flow(self) -> dict[str, dict[str, float]]:
        """Flow error on the true clips at fixed noise levels, of all elements and of those on hands; plain means."""
        found = self._ranks.shared(self._cases, self._errors)
        frames = {str(level): [errors[level][0] for errors in found] for level in LEVELS}
        hands = {str(level): [e for errors in found if (e := errors[level][1]) is not None] for level in LEVELS}
        return {
            "frame": {level: sum(values) / len(values) for level, values in frames.items()},
            "hand": {level: sum(values) / len(values) for level, values in hands.items() if values},
        }

    @torch.no_grad()
    def _errors(self, case: Case) -> dict[float, tuple[float, float | None]]:
        """The flow error of a case at each level, of all elements and of those on hands, where there are any."""
        base, clip = self._policy.base, case.ground_truth or case.driving
        batch = Batch.of([self._encoder.encode(Clip(case, clip, None, file_sha256(clip)))]).to(base.device)
        noise, _ = drawn([Draw(case.id, 0)], batch.latents.shape[1:], 0, LossConfig())
        noise, covered = noise.to(base.device), batch.mask.sum().item()
        found: dict[float, tuple[float, float | None]] = {}
        for level in LEVELS:
            t = torch.full((1,), level, device=base.device)
            made = self._policy.predict(batch, flow.noised(batch.latents, noise, t), t)
            squared = (made - flow.velocity(batch.latents, noise)).square().mean(1)
            error = batch.references.clip(squared, batch.mask.shape[1], axis=1)
            hand = (error * batch.mask).sum().item() / covered if covered > 0 else None
            found[level] = error.mean().item(), hand
        return found

    def _samples(self, step: int) -> dict[str, list[list[Any]]]:
        """Scores of samples: metric -> rows of case, seed, value."""
        if not self._config.seeds:
            return {}
        self._scorer = self._scorer or Scorer(Looker(threads=max(1, torch.get_num_threads())), METRICS)
        folder = self._folder / "samples" / f"{step:06d}"
        pose_of = self._encoder.pose_of
        model = Generator(self._spec, folder, pose_of=pose_of, drawn_by=DRAWN_BY, base=self._policy.base)
        scores: dict[str, list[list[Any]]] = {metric.info.id: [] for metric in self._scorer.metrics}
        for rows in self._ranks.shared(self._cases, partial(self._scored, model, self._scorer)):
            for metric, *row in rows:
                scores[metric].append(row)
        return scores

    def _scored(self, model: Generator, scorer: Scorer, case: Case) -> list[tuple[str, str, int, float]]:
        """Metric, case, seed and value of a case's samples."""
        found = []
        for made in model.generate_many([(case, seed) for seed in self._config.seeds]):
            if made.path is None:
                continue
            try:
                result = scorer.score(made.path, made.case)
            except Unscorable:
                continue
            for metric, measured in result.measured.items():
                if measured.value is not None:
                    found.append((metric, made.case.id, made.seed, measured.value))
        return found

    def _identities(self) -> dict[str, str]:
        return {case.id: case.identity or case.id for case in self._cases}


def last(folder: Path) -> dict[str, Any] | None:
    """The last line of the looks in a run's folder, or None."""
    lines = list(_lines(folder / LOG))
    return lines[-1] if lines else None


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    if not log.exists():
        return
    for text in log.read_text().splitlines():
        try:
            yield json.loads(text)
        except ValueError:  # cut off by a kill: this look is taken again
            continue


def alarm(
    before: Mapping[str, Sequence[Sequence[Any]]],
    now: Mapping[str, Sequence[Sequence[Any]]],
    by: set[str],
    identity_of: Mapping[str, str],
) -> list[str]:
    """What speaks for a reward that is gamed: metrics that chose rise, while others, or the rest of the frame, fall.

    Scores as rows of (case, seed, value); a metric rises or falls where the 95 % interval of its paired difference,
    over identities, excludes 0, and the sign of its direction is taken into account. Metrics that look through the
    same networks as one that chose are marked: if they rise too, that is no second witness. Empty: no alarm.
    """
    rising, beside, falling = [], [], []
    for metric, rows in now.items():
        name = metric.partition("@")[0]
        a, b = ({(case, seed): value for case, seed, value in found} for found in (rows, before.get(metric, ())))
        found = difference(a, b, identity_of=identity_of)
        if found.low is None or found.high is None:
            continue
        sign = 1 if find(metric).info.better == "higher" else -1
        better = min(sign * found.low, sign * found.high) > 0
        worse = max(sign * found.low, sign * found.high) < 0
        independent = is_evidence(name, by)
        if better and name in by:
            rising.append(metric)
        elif better and not independent:
            beside.append(metric)
        elif worse and name not in by:
            falling.append(f"{metric} {found.delta:+.3g}" + ("" if independent else " (of the same networks)"))
    if not rising or not falling:
        return []
    no_witness = f" (and {', '.join(beside)}, through the same networks)" if beside else ""
    return [f"{', '.join(rising)}{no_witness} rose while others fell: {', '.join(falling)}"]
