"""What is shown as worst, and why: every reason has its own cards, and lost hands do not crowd out wrong ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_bench.report import worst
from ipa_bench.report.view import ReportView
from ipa_bench.report.worst import Group, worst_moments
from ipa_bench.store import Details, Unit
from tests.report import build
from tests.report.conftest import MISSING


def group(view: ReportView, title: str) -> Group:
    return next(each for each in worst_moments(view) if each.title == title)


def test_each_reason_has_one_card_a_case_at_first(written: tuple[ReportView, Path]) -> None:
    view, _ = written
    for each in worst_moments(view):
        cases = [card.moment.unit[0] for card in each.cards if card.first]
        assert len(cases) == len(set(cases)) > 0
        bad = [card.moment.badness for card in each.cards]
        assert bad == sorted(bad, reverse=True)
        models = [card.moment.unit[2] for card in each.cards if not card.first]
        assert all(models.count(model) <= worst.MOST_OF_MODEL for model in models)
        assert MISSING not in {card.moment.unit for card in each.cards}


def test_the_first_card_of_a_case_is_its_worst(written: tuple[ReportView, Path]) -> None:
    view, _ = written
    found = group(view, "A hand is not as it should be")
    for card in found.cards:
        details = view.details(card.moment.unit)
        assert details is not None
        whole = np.array(details.generated_found.all(axis=1))
        values = details.series["hand.keypoint_error@1"]
        assert card.moment.value == pytest.approx(float(np.nanmax(np.where(whole, values, np.nan))))
        assert card.moment.time == details.times[card.moment.frame]
        assert whole[card.moment.frame]
    case = found.cards[0].moment.unit[0]
    rivals = [card.moment.value for card in found.cards if card.moment.unit[0] == case]
    assert found.cards[0].first
    assert found.cards[0].moment.value == max(rivals)


def test_a_lost_hand_is_shown_in_the_middle_of_the_longest_time(written: tuple[ReportView, Path]) -> None:
    """Lost for frames 4 and 5, and 10 to 14; misses make the error of those frames large, and no error card."""
    view, _ = written

    def lost(unit: Unit) -> Details | None:
        details = view.details(unit)
        if details is None:
            return None
        there = np.ones_like(details.generated_found)
        there[[4, 5, *range(10, 15)], 1] = False
        series = {"hand.keypoint_error@1": np.where(there.all(axis=1), 0.1, 9.0).astype(np.float32)}
        return replace(details, generated_found=there, series=series)

    changed = replace(view, details=lost)
    (card, *_) = [c for c in group(changed, "A hand is not found").cards if c.moment.unit[2] == "base"]
    details = lost(card.moment.unit)
    assert details is not None
    assert details.driving_landmarks is not None
    assert card.moment.frame == 12
    assert card.moment.value == pytest.approx(5 / 25)
    wanted = details.driving_landmarks[12, 1]
    assert card.moment.box == pytest.approx([*wanted.min(axis=0), *wanted.max(axis=0)])
    found = [c.moment.value for c in group(changed, "A hand is not as it should be").cards]
    assert found == pytest.approx([0.1] * len(found))


def test_one_finger_is_told_only_where_the_hand_is_not_the_worst(written: tuple[ReportView, Path]) -> None:
    view, _ = written

    def at(finger: int) -> ReportView:
        def details(unit: Unit) -> Details | None:
            found = view.details(unit)
            if found is None:
                return None
            base = np.full(len(found.times), 0.1, np.float32)
            whole, one = base.copy(), base.copy()
            whole[5], one[finger] = 0.5, 0.9
            series = {"hand.keypoint_error@1": whole, "hand.worst_finger@1": one}
            return replace(found, generated_found=np.ones_like(found.generated_found), series=series)

        return replace(view, details=details)

    assert "One finger is off" not in {each.title for each in worst_moments(at(7))}
    assert {card.moment.frame for card in group(at(15), "One finger is off").cards} == {15}


def test_fingers_are_shown_with_every_hand_of_both_videos(written: tuple[ReportView, Path]) -> None:
    """The metric does not say which hand it is about: the card holds both, as both videos have them."""
    view, _ = written

    def details(unit: Unit) -> Details | None:
        found = view.details(unit)
        if found is None:
            return None
        count, shift = np.full((2, len(found.times)), 0.1, np.float32)
        count[9], shift[4] = 1.5, 3.0
        there = np.ones_like(found.generated_found)
        there[9, 1] = False  # lost in the generated video, and where it should be is shown all the same
        wanted = np.ones_like(there)
        wanted[9] = True, False
        series = {"hand.finger_count@1": count, "hand.anatomy_shift@1": shift}
        return replace(found, generated_found=there, driving_found=wanted, series=series)

    changed = replace(view, details=details)
    cards = group(changed, "A finger too many or too few").cards
    assert {card.moment.frame for card in cards} == {9}
    assert {card.moment.value for card in cards} == {1.5}
    assert {card.moment.frame for card in group(changed, "A hand looks malformed").cards} == {4}
    for card in cards:
        seen = details(card.moment.unit)
        assert seen is not None
        assert seen.driving_landmarks is not None
        points = np.concatenate([seen.driving_landmarks[9, 0], seen.generated_landmarks[9, 0]])
        assert card.moment.box == pytest.approx([*points.min(axis=0), *points.max(axis=0)])
    assert "A finger too many or too few" not in {each.title for each in worst_moments(view)}


def test_pixels_are_worst_where_likeness_is_lowest(tmp_path: Path) -> None:
    view = build.make_run(tmp_path, identities=1)
    ssim = replace(view.infos[6], id="hand.ssim@1")

    def details(unit: Unit) -> Details | None:
        found = view.details(unit)
        values = np.linspace(1, 0.4, len(found.times) if found else 0, dtype=np.float32)
        there = None if found is None else np.ones_like(found.generated_found)
        return found and replace(found, generated_found=there, series={"hand.ssim@1": values})

    changed = replace(view, details=details, infos=(*view.infos, ssim))
    found = group(changed, "A hand's pixels differ")
    assert [card.moment.value for card in found.cards] == pytest.approx([0.4] * len(found.cards))


def test_a_run_with_other_series_still_has_its_worst_frames(written: tuple[ReportView, Path]) -> None:
    view, _ = written

    def only_pck(unit: Unit) -> Details | None:
        details = view.details(unit)
        return details and replace(
            details, series={"hand.pck10@1": details.series["hand.pck10@1"]}, driving_found=None, driving_landmarks=None
        )

    (only,) = worst_moments(replace(view, details=only_pck))
    assert only.title == "The worst frame"
    values = [card.moment.value for card in only.cards]
    assert values == sorted(values)


def test_many_systems_and_cases_make_few_cards() -> None:
    models, cases = [f"m{n}" for n in range(12)], [f"c{n}" for n in range(40)]
    moments = [
        worst.Moment((case, 0, model), "m", float(c + m), "", 0.0, 0, None, float(c + m))
        for c, case in enumerate(cases)
        for m, model in enumerate(models)
    ]
    found = worst._group(worst.ELSE, moments)
    assert sum(card.first for card in found.cards) == worst.MOST_CASES
    assert len(found.cards) <= worst.MOST_CASES + worst.MOST_OF_MODEL * len(models)
    assert {card.moment.unit[2] for card in found.cards if card.first} == {"m11"}


@given(st.lists(st.booleans(), max_size=30))
def test_the_longest_run_is_the_longest(missing: list[bool]) -> None:
    start, length = worst._longest(np.array(missing, bool))
    text = "".join("x" if each else "." for each in missing)
    assert length == max(map(len, text.split(".")), default=0)
    assert text[start : start + length] == "x" * length


def test_the_box_is_of_the_hand_that_is_furthest_off(written: tuple[ReportView, Path]) -> None:
    view, _ = written
    details = view.details(("wave_0", 0, "tuned"))
    assert details is not None
    gone = replace(details, generated_found=np.zeros_like(details.generated_found), driving_landmarks=None)
    assert worst._focus(gone, 5) is None
