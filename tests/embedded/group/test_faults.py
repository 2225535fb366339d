"""Faults on the description of a clip: known amounts, nothing else touched, nuisances leave everybody who they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench.embedded.group.faults import COLOURS, FAULTS, STRENGTHS, TORSO, Fault, faulty, find, mixed
from ipa_bench.embedded.group.setting import Key, Setting, setting
from ipa_bench.embedded.group.shot import shot
from ipa_bench.errors import UserError

CLEAN = {people: setting(Key(people, "val", 2)) for people in (2, 3)}
BAD = [fault for fault in FAULTS if fault.family != "nuisance"]
HARMLESS = [fault for fault in FAULTS if fault.family == "nuisance"]


def looks_changed(one: Setting) -> np.ndarray:
    """bool ``[T, K]``: whether somebody does not look as who stands there."""
    own = one.people
    return np.array([[frame[slot] != own[slot] for slot in range(len(own))] for frame in one.looks])


def test_every_family_has_a_kind_to_train_on_and_twins_that_are_held_out() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for family in {fault.family for fault in FAULTS}:
        assert {fault.held_out for fault in FAULTS if fault.family == family} == {True, False}


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(FAULTS), st.sampled_from(STRENGTHS), st.integers(0, 99), st.sampled_from((2, 3)))
def test_a_fault_is_a_pure_function_and_only_faults_change_who_is_who(
    fault: Fault, strength: str, seed: int, people: int
) -> None:
    clean = CLEAN[people]
    looks, chest = clean.looks, clean.rigs[0].chest.copy()
    one, two = (faulty(clean, fault, strength, seed) for _ in range(2))  # type: ignore[arg-type]
    assert one.looks == two.looks
    assert (one.people, one.size, len(one)) == (clean.people, clean.size, len(clean))
    assert all(np.array_equal(a.hands, b.hands) for a, b in zip(one.rigs, two.rigs, strict=True))
    assert clean.looks is looks
    np.testing.assert_array_equal(clean.rigs[0].chest, chest)
    wrong = looks_changed(one).any() or len(one.rigs) > people
    assert wrong == (fault.family != "nuisance")
    still = all(np.array_equal(a.hands, b.hands) for a, b in zip(one.rigs, clean.rigs, strict=False))
    assert still != fault.moves
    # arms and hands are where the pose has them, whoever they belong to
    assert all(look.palm == own.palm for frame in one.looks for look, own in zip(frame, one.people, strict=False))


def test_an_exchange_lasts_as_long_as_its_level_says() -> None:
    clean = CLEAN[2]
    for strength, share in zip(STRENGTHS, (0.25, 0.5, 0.75), strict=True):
        for name in ("swap", "duplicate", "stranger", "swap_back"):
            wrong = looks_changed(faulty(clean, find(name), strength)).any(1)
            assert abs(wrong.mean() - share) <= 1 / 17, name
    one = faulty(clean, find("swap"), "medium")
    last = one.looks[-1]
    assert (last[0].cloth, last[1].cloth) == (clean.people[1].cloth, clean.people[0].cloth)
    assert last[0].head == pytest.approx(clean.people[1].head)


def test_a_blend_is_the_share_it_says_and_a_drift_grows_to_it() -> None:
    clean = CLEAN[2]
    blended = faulty(clean, find("blend"), "medium").looks[3]
    slot = next(k for k in range(2) if blended[k] != clean.people[k])
    own, other = clean.people[slot], clean.people[1 - slot]
    np.testing.assert_allclose(blended[slot].cloth, (np.array(own.cloth) + other.cloth) / 2)
    assert blended[slot].head == own.head
    drifted = faulty(clean, find("drift"), "strong")
    slot = next(k for k in range(2) if drifted.looks[-1][k] != clean.people[k])
    shares = [
        np.linalg.norm(np.subtract(frame[slot].cloth, clean.people[slot].cloth))
        / np.linalg.norm(np.subtract(clean.people[1 - slot].cloth, clean.people[slot].cloth))
        for frame in drifted.looks
    ]
    np.testing.assert_allclose(shares, 0.7 * np.linspace(0, 1, 17), atol=1e-9)


def test_a_leak_takes_the_shirt_and_nothing_of_the_head() -> None:
    clean = CLEAN[3]
    one = faulty(clean, find("leak"), "strong")
    (slot,) = np.flatnonzero(looks_changed(one).any(0))
    look, own = one.looks[-1][slot], clean.people[slot]
    assert look.cloth != own.cloth
    assert (look.skin, look.hair, look.hair_style, look.head, look.glasses) == (
        own.skin, own.hair, own.hair_style, own.head, own.glasses,
    )  # fmt: skip


def test_somebody_is_there_twice() -> None:
    one = faulty(CLEAN[2], find("twice"), "strong")
    assert len(one.rigs) == 3
    assert one.order[-1] == 2
    drawn = shot(one)
    assert drawn.cover.shape[1] == 3
    assert drawn.masks.shape[1] == 2
    assert one.looks[0][2] in one.people


def test_words_change_at_a_half_and_colours_all_along() -> None:
    a, b = CLEAN[2].people
    assert mixed(a, b, 0.49, TORSO).shirt == a.shirt
    assert mixed(a, b, 0.5, TORSO).shirt == b.shirt
    assert mixed(a, b, 0, COLOURS) == a


def test_people_who_cross_stay_in_the_frame() -> None:
    for index in range(8):
        one = faulty(setting(Key(2, "test", index)), find("crossing"), "strong", index)
        places = np.stack([body.chest[:, 0] for body in one.rigs])
        assert 50 < places.min() < places.max() < 158
        assert places[0, 0] < places[1, 0]
        assert places[0, -1] > places[1, -1]


def test_another_name_is_refused() -> None:
    with pytest.raises(UserError, match="no fault called 'swop'") as error:
        find("swop")
    assert "swap" in error.value.fix
