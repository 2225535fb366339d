"""What the meter itself costs: metered work against the same work alone, and one entry of a phase.

    pytest benchmarks/performance/test_cost.py --benchmark-only

Processor time is compared, the looking thread's included: wall time belongs to whatever else the machine does.
"""

import time

import numpy as np
import pytest
import torch

from ipa_bench.cost import Meter
from ipa_bench.models.checkpoint import locate
from ipa_bench.models.outline import Shape
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.models.wan.flops import forward_flops
from ipa_bench.models.wan.pipeline import load
from tests.models.wan.counting import count_flops

#: products of one phase, and their size: two seconds or so of one core, as short as phases of a run are
STEPS, SIDE = 200, 768


def work(matrix):
    """A step without the meter."""
    return torch.mm(matrix, matrix)


def spent(function):
    """Processor time of this process, all threads."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def test_overhead(benchmark):
    """Steps of some 10 ms, each counted, in a phase of two hundred: the share that the meter adds.

    Which comes first alternates, and products have one thread: waiting threads of two would count as work.
    """
    matrix = torch.randn(SIDE, SIDE)
    meter = Meter()

    def plain():
        for _ in range(STEPS):
            work(matrix)

    def metered():
        with meter.phase("train", unit="step") as phase:
            for _ in range(STEPS):
                work(matrix)
                phase.add(1, tokens=SIDE, flops=2 * SIDE**3)

    times = {"plain": [], "metered": []}

    order = [("plain", plain), ("metered", metered)]

    def both():
        for name, function in order:
            times[name].append(spent(function))
        order.reverse()

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    benchmark.pedantic(both, rounds=12, iterations=1, warmup_rounds=1)
    torch.set_num_threads(before)
    ratio = min(times["metered"]) / min(times["plain"])
    benchmark.extra_info.update(
        plain_seconds=min(times["plain"]),
        metered_over_plain=ratio,
        median_ratio=float(np.median(times["metered"]) / np.median(times["plain"])),
        looks=meter.host.looks,
        searches=meter.host.searches,
        looking_share=meter.host.busy / meter.cost().seconds,
    )
    assert ratio < 1.01
    assert meter.host.looks
    assert meter.host.busy < 0.005 * meter.cost().seconds


def test_entering_a_phase(benchmark):
    """An entry, ten counts and the end: what a phase has to be a hundred times longer than."""
    meter = Meter()

    def enter():
        with meter.phase("observe", unit="clip") as phase:
            for _ in range(10):
                phase.add(1, video_seconds=2.0)

    times = []
    benchmark.pedantic(lambda: times.append(spent(enter)), rounds=300, iterations=1, warmup_rounds=5)
    benchmark.extra_info["processor_seconds"] = float(np.median(times))
    assert np.median(times) < 0.002


def test_counting_and_the_formula(benchmark):
    """FLOPs of the tiny model's forward pass, counted while it runs and worked out without running it."""
    spec = WanVaceSpec(name="tiny", kind="wan_vace", model="embedded", dtype="fp32")
    transformer = load(spec, locate(spec), "cpu").transformer
    config, shape = transformer.config, Shape(10, 16, 16, text=64)
    size = (shape.frames, shape.height, shape.width)
    inputs = {
        "hidden_states": torch.randn(1, config.in_channels, *size),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, shape.text, config.text_dim),
        "control_hidden_states": torch.randn(1, config.vace_in_channels, *size),
    }

    def forward():
        with torch.no_grad():
            return transformer(**inputs, return_dict=False)[0]

    times = {"alone": [], "counted": [], "formula": []}
    found = {}

    def all_three():
        times["alone"].append(spent(forward))
        times["counted"].append(spent(lambda: found.update(counted=count_flops(forward).flops.value)))
        times["formula"].append(spent(lambda: found.update(formula=forward_flops(config, shape))))

    benchmark.pedantic(all_three, rounds=10, iterations=1, warmup_rounds=1)
    alone = min(times["alone"])
    benchmark.extra_info.update(
        flops=found["formula"], counted_over_alone=min(times["counted"]) / alone,
        formula_over_alone=min(times["formula"]) / alone,
    )  # fmt: skip
    assert found["counted"] == pytest.approx(found["formula"], rel=0.02)
    assert min(times["formula"]) < alone
