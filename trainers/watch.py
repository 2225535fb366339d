"""Looking at a model while it is trained: flow error and scored samples of held-out cases, and an alarm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
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
        by: Sequence[str], folder: Path,
    ) -> None:  # fmt: skip
        """``by``: ids of the metrics that chose the training clips: those prove nothing."""
        self._policy, self._encoder, self._cases, self._config = policy, encoder, cases, config
        self._by = {metric.partition("@")[0] for metric in by}
        self._spec, self._folder = spec.model_copy(update={"lora": None, "keep_latents": False}), folder
        self._log = folder / LOG
        self._scorer: Scorer | None = None

    def look(self, step: int) -> dict[str, Any]:
        """Measure the model as it is now, unless that was done at this step before; gives the line of the log."""
        known = {line["step"]: line for line in self._lines()}
        if step in known or not self._cases:
            return known.get(step, {})
        training = self._policy.training
        self._policy.train(False)
        try:
            line: dict[str, Any] = {"step": step, "flow": self._flow(), "scores": self._samples(step)}
        finally:
            self._policy.train(training)
        line["alarm"] = alarm(known.get(0, line)["scores"], line["scores"], self._by, self._identities())
        states.append(self._log, line)
        return line

    def forget(self) -> None:
        """Remove what was seen before."""
        self._log.unlink(missing_ok=True)
        shutil.rmtree(self._folder / "samples", ignore_errors=True)

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self._log.exists():
            return
        for text in self._log.read_text().splitlines():
            try:
                yield json.loads(text)
            except ValueError:  # cut off by a kill: this look is taken again
                continue

    @torch.no_grad()
    def _flow(self) -> dict[str, dict[str, float]]:
        """Flow error on the true clips at fixed noise levels, of all elements and of those on hands; plain means."""
        base = self._policy.base
        frames: dict[str, list[float]] = {str(level): [] for level in LEVELS}
        hands: dict[str, list[float]] = {str(level): [] for level in LEVELS}
        for case in self._cases:
            clip = case.ground_truth or case.driving
            batch = Batch.of([self._encoder.encode(Clip(case, clip, None, file_sha256(clip)))]).to(base.device)
            noise, _ = drawn([Draw(case.id, 0)], batch.latents.shape[1:], 0, LossConfig())
            noise = noise.to(base.device)
            for level in LEVELS:
                t = torch.full((1,), level, device=base.device)
                made = self._policy.predict(batch, flow.noised(batch.latents, noise, t), t)
                squared = (made - flow.velocity(batch.latents, noise)).square().mean(1)
                error = batch.references.clip(squared, batch.mask.shape[1], axis=1)
                frames[str(level)].append(error.mean().item())
                covered = batch.mask.sum().item()
                if covered > 0:
                    hands[str(level)].append((error * batch.mask).sum().item() / covered)
        return {
            "frame": {level: sum(values) / len(values) for level, values in frames.items()},
            "hand": {level: sum(values) / len(values) for level, values in hands.items() if values},
        }

    def _samples(self, step: int) -> dict[str, list[list[Any]]]:
        """Scores of samples: metric -> rows of case, seed, value."""
        if not self._config.seeds:
            return {}
        self._scorer = self._scorer or Scorer(Looker(threads=max(1, torch.get_num_threads())), METRICS)
        folder = self._folder / "samples" / f"{step:06d}"
        pose_of = self._encoder.pose_of
        model = Generator(self._spec, folder, pose_of=pose_of, drawn_by=DRAWN_BY, base=self._policy.base)
        scores: dict[str, list[list[Any]]] = {metric.info.id: [] for metric in self._scorer.metrics}
        for made in model.generate_many([(case, seed) for case in self._cases for seed in self._config.seeds]):
            if made.path is None:
                continue
            try:
                result = self._scorer.score(made.path, made.case)
            except Unscorable:
                continue
            for metric, measured in result.measured.items():
                if measured.value is not None:
                    scores[metric].append([made.case.id, made.seed, measured.value])
        return scores

    def _identities(self) -> dict[str, str]:
        return {case.id: case.identity or case.id for case in self._cases}


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
