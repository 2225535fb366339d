"""An alignment step as published against ours: the same losses, less time, half the weights.

    pytest benchmarks/performance/test_recipe.py --benchmark-only

Both run in one process, in turns, on the same clips with the same noise and noise levels. The published recipe is
written from its description (github.com/mdswyz/IPA, README): the model is copied once its adapter has been added, and
the copy has a forward pass of its own in every step. Ours reads the reference's errors, which do not change. The model
is the tiny one that the package carries, at its own shape. Processor time is compared, that of all threads: wall time,
which is in ``extra_info`` too, belongs to whatever else the machine does.
"""

import statistics
import time
from operator import truediv

import pytest
import torch

from trainers.config import AdapterConfig
from trainers.cost_sheet.plan import EMBEDDED_CLIPS
from trainers.cost_sheet.recipes import Recipe, Training
from trainers.cost_sheet.subject import subject

#: as the built-in alignment trains
ADAPTER = AdapterConfig(rank=16, layers="linear")
WORKS = ("published", "ipa", "ipa-cached")
WARMUP, ROUNDS = 2, 7


def trainings(folder):
    """The same recipe with its three references, each on a model of its own."""
    about, device = subject("embedded", random_weights=False), torch.device("cpu")
    shape = about.shape(EMBEDDED_CLIPS[0], 1)
    return {
        work: Training(
            Recipe(work, ADAPTER, 1, "fp32"), about.outline.built("fp32", device, decodes=False), shape, folder / work
        )
        for work in WORKS
    }


def test_a_step_against_the_published_recipe(benchmark, tmp_path):
    """Time, weights held and losses of updates that are taken in turns."""
    running = trainings(tmp_path)
    taken, spent = {work: [] for work in WORKS}, {work: [] for work in WORKS}

    def each():
        for work, training in running.items():
            begin = time.process_time()
            taken[work] += training.take(1)
            spent[work].append(time.process_time() - begin)

    try:
        benchmark.pedantic(each, rounds=ROUNDS, iterations=1, warmup_rounds=WARMUP)
    finally:
        for training in running.values():
            training.close()
    seconds = {work: [update.lap.seconds for update in taken[work][WARMUP:]] for work in WORKS}
    processor = {work: found[WARMUP:] for work, found in spent.items()}
    shares, wall_shares = (
        {work: statistics.median(map(truediv, found[work], found["published"])) for work in WORKS}
        for found in (processor, seconds)
    )
    losses = {work: [update.metrics["loss"] for update in taken[work]] for work in WORKS}
    held = {work: training.held for work, training in running.items()}
    benchmark.extra_info.update(
        processor_seconds={work: statistics.median(found) for work, found in processor.items()},
        processor_shares=shares,
        wall_seconds={work: statistics.median(found) for work, found in seconds.items()},
        wall_shares=wall_shares,
        least_wall_share=min(seconds["ipa-cached"]) / min(seconds["published"]),
        held_bytes=held,
        held_share=held["ipa-cached"] / held["published"],
        losses=losses["ipa-cached"],
    )
    assert losses["ipa-cached"] == pytest.approx(losses["published"], rel=1e-6)
    assert losses["ipa"] == pytest.approx(losses["published"], rel=1e-6)
    assert losses["published"][-1] < losses["published"][0]  # something was trained
    assert held["ipa-cached"] <= 0.6 * held["published"]
    assert shares["ipa-cached"] <= 0.75
