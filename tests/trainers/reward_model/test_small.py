"""The small network: what it must not depend on, what it must see, and exact resume of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ipa_bench.embedded.group.faults import find
from ipa_bench.embedded.group.setting import Key
from trainers.embedded.nets import loop
from trainers.embedded.nets.loop import Descent
from trainers.preferences import synthetic
from trainers.preferences.synthetic import Pair
from trainers.reward_model import baselines, data, file, fit, small
from trainers.reward_model.backbones import BACKBONES
from trainers.reward_model.data import Example
from trainers.reward_model.measure import measure
from trainers.reward_model.seen import Seen
from trainers.rewards import find as find_reward


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    kinds = [find(name) for name in ("swap", "leak", "light", "crossing")]
    return synthetic.pairs(Key(2, "train", synthetic.FIRST), kinds, small.FRAMES, small.HEIGHT)


@pytest.fixture(scope="module")
def examples(pairs: list[Pair]) -> list[Example]:
    return [Example(pair.a, pair.b, data.SHARES[pair.outcome], pair.fault) for pair in pairs]


def test_pairs_say_what_is_better_and_are_the_same_again(pairs: list[Pair]) -> None:
    assert [(p.fault, p.outcome) for p in pairs] == [
        ("swap", "a"),
        ("leak", "a"),
        ("light", "tie"),
        ("crossing", "tie"),
    ]
    again = synthetic.pairs(
        Key(2, "train", synthetic.FIRST), [find(p.fault) for p in pairs], small.FRAMES, small.HEIGHT
    )
    for one, other in zip(pairs, again, strict=True):
        np.testing.assert_array_equal(one.b.frames, other.b.frames)
    # a fault changes frames and neither references nor poses; people who move take their poses along
    np.testing.assert_array_equal(pairs[0].a.references, pairs[0].b.references)
    np.testing.assert_array_equal(pairs[0].a.places, pairs[0].b.places)
    assert not np.array_equal(pairs[3].a.places, pairs[3].b.places)
    assert (pairs[0].a.frames != pairs[0].b.frames).any()


def test_ties_alone_are_seen_with_one_side_worse_or_with_a_jump_in_time() -> None:
    frames = np.full((4, 8, 8, 3), 128, np.uint8)
    places = np.ones((2, 4, 2, 3), np.float32)
    places[..., 2] = np.arange(1, 5)[None, :, None]  # which frame it is
    seen = Seen(frames, frames[:2], places)
    order = [1.0, 2.0, 3.0, 4.0]

    def share(shares: tuple[float, float, float]) -> tuple[float, float]:
        jumps = uneven = 0
        for seed in range(400):
            made = fit.worse(Example(seen, seen, shares, "x"), np.random.default_rng(seed))
            times = [list(side.places[0, :, 0, 2]) for side in (made.a, made.b)]
            # a rotation of the clip, on one side at most
            assert all(
                times[side][times[side].index(1.0) :] + times[side][: times[side].index(1.0)] == order
                for side in (0, 1)
            )
            assert order in times
            jumps += times[0] != times[1]
            spread = [side.frames.std() > 0.5 for side in (made.a, made.b)]
            uneven += spread[0] != spread[1]
        return jumps / 400, uneven / 400

    assert share((1.0, 0.0, 0.0)) == (0.0, 0.0)
    jumps, uneven = share((0.0, 1.0, 0.0))
    assert jumps == pytest.approx(fit.JUMPS, abs=0.08)
    # of pairs that are clean, half; where both are worse already one is worse still
    assert uneven == pytest.approx(fit.ONE_SIDED * (1 - fit.WORSE), abs=0.08)


def test_places_are_where_people_are(pairs: list[Pair]) -> None:
    """The trunk of each person, in the middle of the frame's lower half, shows no wall: its colours are theirs."""
    seen = pairs[0].a
    assert (seen.places[..., 2] > 0).mean() > 0.9
    for slot in range(2):
        x, y, _ = seen.places[slot, 0, 1] * small.HEIGHT
        shown = seen.frames[0, int(y), int(x)].astype(int)
        reference = seen.references[slot].reshape(-1, 3).astype(int)
        assert np.abs(reference - shown).max(1).min() < 40


def test_scores_do_not_depend_on_the_order_of_people_nor_on_the_batch(pairs: list[Pair]) -> None:
    torch.manual_seed(0)
    net = small.SmallIdentity().eval()
    seen = pairs[0].b
    other = Seen(seen.frames, seen.references[::-1].copy(), seen.places[::-1].copy())
    one, turned = fit.scores(net, [seen, other])
    assert one == pytest.approx(turned, abs=1e-5)
    assert fit.scores(net, [seen])[0] == pytest.approx(one, abs=1e-5)
    # exchanged references are another question
    exchanged = Seen(seen.frames, seen.references[::-1].copy(), seen.places)
    assert fit.scores(net, [exchanged])[0] != pytest.approx(one, abs=1e-5)


def test_a_clip_without_poses_has_a_score(pairs: list[Pair]) -> None:
    torch.manual_seed(0)
    net = small.SmallIdentity().eval()
    seen = pairs[0].a
    blind = Seen(seen.frames, seen.references, np.zeros_like(seen.places))
    assert np.isfinite(fit.scores(net, [blind])[0])


def test_a_few_steps_lower_the_loss_and_resume_is_exact(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_KEEP", 5)
    losses: list[float] = []

    def tell(done: int, total: int, found: Any) -> None:
        losses.append(found["preference"])

    how = Descent(steps=14, batch=1, rate=5e-3)
    whole = fit.fit(examples[:1], how, tmp_path / "whole.pt", tell)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])

    class Stopped(Exception):
        pass

    def stop(done: int, total: int, found: Any) -> None:
        if done == 8:
            raise Stopped

    with pytest.raises(Stopped):
        fit.fit(examples[:1], how, tmp_path / "part.pt", stop)
    again = fit.fit(examples[:1], how, tmp_path / "part.pt", lambda *_: None)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_colours_see_a_swap_for_ever(pairs: list[Pair]) -> None:
    """The baseline ranks the clean clip of a strong fault above it, where the people wear different colours."""
    a, b = baselines.histogram([pairs[0].a, pairs[0].b])
    assert a > b


def test_the_one_that_ships_prefers_people_to_those_of_others(pairs: list[Pair]) -> None:
    """On a group that it was trained on: that the file is the one that its card tells of."""
    card, tensors = file.read(file.SHIPPED)
    scores = BACKBONES[card.backbone].opened(card, tensors, file.SHIPPED)
    for pair in pairs[:2]:
        a, b = scores([pair.a, pair.b])
        assert a > b + card.log_k
    assert (file.SHIPPED / file.WEIGHTS).stat().st_size < 2e6
    assert find_reward("video:embedded").info.id == f"reward.people.{card.sha256[:8]}@1"


def test_measures_are_worked_out_by_hand() -> None:
    difference = np.array([1.0, -1.0, 2.0, 0.1])
    shares = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]], float)
    found = measure(difference, shares, ["swap", "swap", "swap", "light"], log_k=1.0)
    swap, light = found.kinds
    assert (swap.name, swap.pairs, swap.accuracy) == ("swap", 3, pytest.approx(1 / 3))
    assert light.accuracy is None
    assert light.higher == 1.0
    assert 0.5 < light.preferred < 0.56
    assert light.with_ties == 1.0  # a difference of .1 with ln k of 1 is likeliest a tie
    assert found.of(["swap"]) == (pytest.approx(1 / 3), 3)


def test_flipped_votes_are_that_share(examples: list[Example]) -> None:
    turned = data.flipped([examples[0]] * 4, 0.5, seed=1)
    assert sum(each.shares == (0.0, 0.0, 1.0) for each in turned) == 2
    assert [e.shares for e in data.flipped(examples, 0.0, 1)] == [e.shares for e in examples]
