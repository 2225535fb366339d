"""What the reference of alignment costs: memory against a second copy of the model, time where its errors are known.

And what compiled blocks save on a processor.

    pytest benchmarks/performance/test_training.py --benchmark-only

The model is the tiny one that the package carries; ratios are in ``extra_info``: absolute times belong to the machine.
"""

import copy
import time

import numpy as np
import pytest
import torch

from ipa_bench.models.checkpoint import locate
from ipa_bench.models.specs import WanVaceSpec
from ipa_bench.models.wan import conditioning
from ipa_bench.models.wan.pipeline import load
from ipa_bench.models.wan.vace import WanVace
from trainers.config import AdapterConfig, LossConfig, fast_dtype
from trainers.data.encode import Batch
from trainers.data.reference import ReferenceErrors
from trainers.methods.objective import Draw, Objective
from trainers.policy import LoraPolicy


@pytest.fixture
def pipe():
    spec = WanVaceSpec(name="tiny", kind="wan_vace", model="embedded", dtype="fp32")
    return load(spec, locate(spec), "cpu")


def size(*modules):
    """Bytes of all parameters, each storage once."""
    found = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for m in modules for p in m.parameters()}
    return sum(found.values())


def batch(pipe, count=2):
    """Noise in the shape of a clip of the built-in world."""
    frames = np.random.default_rng(0).integers(0, 255, (17, 128, 128, 3), dtype=np.uint8)
    control = conditioning.control_latents(pipe, frames, frames[0])
    latents = conditioning.flow_input(control, conditioning.encode_video(pipe, frames))
    prompt = conditioning.Prompts(pipe).encode(["a person"])
    mask = torch.zeros(count, latents.shape[2] - 1, *latents.shape[3:])
    latents, control, prompt = (t.repeat(count, *[1] * (t.ndim - 1)) for t in (latents, control, prompt))
    return Batch(latents, {"control": control, "prompt": prompt}, mask, tuple(map(str, range(count))))


def in_turn(benchmark, kinds, step, clock):
    """Two kinds of step by turns, after one of each that does not count.

    Median seconds of each by ``clock``; the median ratio of the second kind to the first in one turn; their results.
    """
    times, results = {name: [] for name in kinds}, {}

    def turn():
        for name, kind in kinds.items():
            begin = clock()
            results[name] = step(kind)
            times[name].append(clock() - begin)

    turn()
    for found in times.values():
        found.clear()
    benchmark.pedantic(turn, rounds=5, iterations=1)
    first, second = (np.array(found) for found in times.values())
    return {name: float(np.median(found)) for name, found in times.items()}, float(np.median(second / first)), results


def test_memory_of_the_reference(benchmark, pipe):
    """The LoRA switched off against a frozen copy of the transformer."""
    base = size(pipe.transformer)
    begin = time.perf_counter()
    second = copy.deepcopy(pipe.transformer)
    copying = time.perf_counter() - begin
    trained = LoraPolicy(WanVace(pipe), AdapterConfig(rank=16), None, 0)

    def switched():
        with trained.reference():
            return size(trained.transformer)

    ours = benchmark(switched)
    theirs = size(trained.transformer, second)
    benchmark.extra_info.update(
        base_bytes=base, switched_off_bytes=ours, deep_copy_bytes=theirs, share=ours / theirs, copy_seconds=copying
    )
    assert theirs == ours + base
    assert ours < 0.75 * theirs


def test_a_step_with_a_known_reference(benchmark, pipe, tmp_path):
    """Forward, reference and backward of an IPA step, the reference computed and remembered, in turn."""
    trained = LoraPolicy(WanVace(pipe), AdapterConfig(rank=16), None, 0)
    given, draws = batch(pipe), [Draw("a", 0), Draw("b", 0)]
    known = ReferenceErrors(tmp_path)
    objectives = {
        name: Objective("ipa", LossConfig(), True, 0, trained, errors)
        for name, errors in (("computed", None), ("known", known))
    }

    def step(objective):
        loss, _ = objective.loss(given, None, draws)
        loss.backward()
        return loss.item()

    seconds, ratio, losses = in_turn(benchmark, objectives, step, time.perf_counter)  # the first fills the memory
    benchmark.extra_info.update(
        computed_seconds=seconds["computed"], known_seconds=seconds["known"], known_over_computed=ratio
    )
    assert len(known) == 2
    assert losses["known"] == losses["computed"]
    assert ratio < 0.95


@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
@pytest.mark.skipif(torch.cuda.is_available(), reason="what a processor computes")
def test_a_step_through_compiled_blocks(benchmark):
    """Forward and backward of an SFT step with four clips, as diffusers has the blocks and compiled, in turn."""
    steps, given = {}, None
    for name in ("plain", "compiled"):
        spec = WanVaceSpec(name="tiny", kind="wan_vace", model="embedded", dtype="fp32", compile=name == "compiled")
        loaded = load(spec, locate(spec), "cpu")
        given = given or batch(loaded, 4)
        trained = LoraPolicy(WanVace(loaded), AdapterConfig(rank=16, layers="linear"), None, 0)
        steps[name] = Objective("sft", LossConfig(), True, 0, trained, None)
    draws = [Draw(str(clip), 0) for clip in range(4)]

    def step(objective):
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_dtype() == "bf16"):
            loss, _ = objective.loss(given, None, draws)
        loss.backward()
        return loss.item()

    seconds, ratio, losses = in_turn(benchmark, steps, step, time.process_time)  # the first compiles
    benchmark.extra_info.update(
        plain_seconds=seconds["plain"],
        compiled_seconds=seconds["compiled"],
        compiled_over_plain=ratio,
        precision=fast_dtype(),
    )
    assert losses["compiled"] == pytest.approx(losses["plain"], rel=2e-2)
    assert ratio < 0.9
