"""The flow convention against diffusers' scheduler, and by hand."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from trainers import flow


def test_ends_and_middle_by_hand() -> None:
    x, noise = torch.tensor([[2.0]]), torch.tensor([[6.0]])
    for t, expected in ((0.0, 2.0), (1.0, 6.0), (0.25, 3.0)):
        assert flow.noised(x, noise, torch.tensor([t])).item() == expected
    assert flow.velocity(x, noise).item() == 4.0


@given(st.floats(0, 1), st.floats(-5, 5), st.floats(-5, 5))
def test_the_velocity_leads_from_any_t_to_both_ends(t: float, x: float, noise: float) -> None:
    a, b, time = (torch.tensor([[v]], dtype=torch.float64) for v in (x, noise, t))
    z, v = flow.noised(a, b, time[0]), flow.velocity(a, b)
    torch.testing.assert_close(z - time * v, a, atol=1e-9, rtol=0)
    torch.testing.assert_close(z + (1 - time) * v, b, atol=1e-9, rtol=0)


def test_noise_levels_are_the_schedulers() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    scheduler.set_timesteps(8)
    x, noise = torch.randn(1, 4, generator=torch.Generator().manual_seed(0)), torch.ones(1, 4)
    for step, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        assert abs(step.item() / flow.TIMESTEPS - sigma.item()) < 1e-6
        ours = flow.noised(x, noise, sigma[None])
        torch.testing.assert_close(ours, scheduler.scale_noise(x, step[None], noise))
    # the scheduler of shift 1 runs over plain levels; shifting those gives the same as its own shift
    torch.testing.assert_close(
        flow.shifted(torch.linspace(1, 0.001, 1000), 2.0),
        FlowMatchEulerDiscreteScheduler(shift=2.0).sigmas,
        atol=1e-6,
        rtol=0,
    )


def test_a_true_velocity_is_integrated_to_the_clip() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0)
    scheduler.set_timesteps(5)
    x, noise = torch.full((1, 3), 0.3), torch.full((1, 3), -1.1)
    z = noise
    for step in scheduler.timesteps:
        z = scheduler.step(flow.velocity(x, noise), step, z, return_dict=False)[0]
    torch.testing.assert_close(z, x, atol=1e-5, rtol=0)
