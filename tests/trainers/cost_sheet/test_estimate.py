"""Fits of time and memory: exact where the law holds, within a stated tolerance where times vary, labelled as such."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.cost import Amount
from trainers.cost_sheet.estimate import Point, estimate, fit_memory, fit_time, left_out
from trainers.cost_sheet.plan import Cell, Clip
from trainers.cost_sheet.sheet import Result
from trainers.cost_sheet.subject import subject

WAN = subject("wan2.1-vace-1.3b", random_weights=True)
SHAPES = tuple(Clip(480, 832, frames) for frames in (17, 49, 81))
HELD_OUT = (Clip(480, 832, 65), Clip(480, 832, 121), Clip(720, 1280, 81))


def cell(clip, work="ipa-cached", **values):
    return Cell("wan2.1-vace-1.3b", True, work, clip, 1, "bf16", rank=128, layers="qkv", **values)


def law(clip):
    """Seconds of a made-up machine: 50 ms a step, 400 TFLOP/s, and a microsecond a token."""
    return 0.05 + WAN.flops(cell(clip)) / 4e14 + 1e-6 * WAN.tokens(clip, 1)


def result(clip, seconds, memory=None):
    return Result(
        cell(clip), "measured", seconds=seconds, device_allocated=Amount(memory) if memory else Amount(reason="none"),
        host=Amount(1.0), flops=WAN.flops(cell(clip)), useful=1, tokens=WAN.tokens(clip, 1),
    )  # fmt: skip


@pytest.mark.parametrize("clip", HELD_OUT, ids=str)
def test_a_held_out_shape_of_a_steady_machine_is_predicted_exactly(clip):
    results = [result(each, (law(each),) * 5) for each in SHAPES]
    found = estimate(cell(clip), WAN.flops(cell(clip)), WAN.tokens(clip, 1), results)
    assert found.seconds.value == pytest.approx(law(clip), rel=1e-6)
    assert found.points == ("480x832x17 x 1", "480x832x49 x 1", "480x832x81 x 1")
    assert found.reach == pytest.approx(WAN.flops(cell(clip)) / WAN.flops(cell(SHAPES[-1])))


@pytest.mark.parametrize("clip", HELD_OUT, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_a_held_out_shape_is_predicted_within_a_tenth_where_medians_vary_by_two_percent(clip, seed):
    chance = random.Random(seed)
    results = [result(each, (law(each) * (1 + chance.uniform(-0.02, 0.02)),) * 5) for each in SHAPES]
    found = estimate(cell(clip), WAN.flops(cell(clip)), WAN.tokens(clip, 1), results)
    assert found.seconds.value == pytest.approx(law(clip), rel=0.1)


@given(
    st.floats(1e-3, 1.0), st.floats(1e-16, 1e-13), st.floats(0, 1e-4),
    st.lists(st.integers(100, 50_000), min_size=4, max_size=6, unique=True),
)  # fmt: skip
def test_no_estimate_is_outside_of_what_the_law_allows(constant, per_flop, per_token, sizes):
    """Between growing as the tokens and growing as the arithmetic, from the nearest measured point."""
    sizes = sorted(sizes)
    points = [
        Point(1e9 * n + 1e5 * n**2, n, constant + per_flop * (1e9 * n + 1e5 * n**2) + per_token * n) for n in sizes
    ]
    fit = fit_time(points[:-1])
    assert min(fit.constant, fit.per_flop, fit.per_token) >= 0
    last = points[-1]
    assert fit.at(last.flops, last.tokens) <= points[-2].value * last.flops / points[-2].flops * (1 + 1e-3)
    assert fit.at(points[0].flops, points[0].tokens) == pytest.approx(points[0].value, rel=1e-3)


def test_fewer_shapes_carry_fewer_coefficients():
    one = fit_time([Point(2e12, 100, 4.0), Point(2e12, 100, 6.0)])
    assert (one.constant, one.per_token) == (0, 0)
    assert one.at(2e12, 100) == pytest.approx(48 / 10.4)  # least squares of relative errors: 0.25 b + 0.1667 b ...
    two = fit_time([Point(1e12, 100, 3.0), Point(2e12, 300, 5.0)])
    assert (two.constant, two.per_flop, two.per_token) == (pytest.approx(1.0), pytest.approx(2e-12), 0)
    with pytest.raises(ValueError, match="positive points"):
        fit_time([])


def test_memory_is_weights_and_tokens():
    fit = fit_memory([Point(1, 1000, 5e9), Point(1, 3000, 7e9), Point(1, 4000, 8e9)])
    assert fit.at(1, 10_000) == pytest.approx(14e9)


def test_what_leaving_out_shows():
    exact = [Point(f, t, 1 + 1e-12 * f + 1e-3 * t) for f, t in ((1e12, 100), (3e12, 250), (9e12, 500), (2e13, 800))]
    assert left_out(exact).value == pytest.approx(0, abs=1e-6)
    odd = [*exact[:2], Point(exact[2].flops, exact[2].tokens, 2 * exact[2].value), exact[3]]
    assert left_out(odd).value > 0.2
    assert left_out(exact[:2]).reason == "too few shapes to leave one out"


def test_nothing_like_it_is_no_number():
    other = result(SHAPES[0], (1.0,) * 5)
    found = estimate(cell(SHAPES[1], work="sft"), 1, 1, [other])
    assert found.seconds == Amount(reason="nothing like it was measured")
    assert found.points == ()


def test_a_clip_is_denoised_and_decoded():
    """Pixels decide decoding: 3.125 s at 17 frames and 11.125 s at 81 are 1 s and 0.125 s a frame."""
    wanted = [Cell("m", True, "generate", clip, 1, "bf16", guidance=5.0, steps=50) for clip in SHAPES]
    results = [
        Result(c, "measured", seconds=(s,) * 5, decode=(d,) * 5, flops=WAN.flops(c), tokens=WAN.tokens(c.clip, 1))
        for c, s, d in ((wanted[0], 1.0, 3.125), (wanted[2], 9.0, 11.125))
    ]
    found = estimate(wanted[1], WAN.flops(wanted[1]), WAN.tokens(wanted[1].clip, 1), results)
    assert found.clip_seconds.value == pytest.approx(50 * found.seconds.value + 7.125, rel=1e-6)
    assert 1.0 < found.seconds.value < 9.0
