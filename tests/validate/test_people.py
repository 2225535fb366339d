"""Known faults of who is who on footage: what is laid where, by how much, and who notices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.validate import faces, people
from ipa_bench.validate.faces import FAULTS, Pair, faulty, laid
from ipa_bench.validate.people import COLUMNS, PeopleValidation, Seen, footage, markdown, validate_people
from tests.nets.golden import published_file
from tests.observers.test_faces import ANNA, BEN, pair, scene

POINTS = np.array([[40, 40], [60, 40], [50, 50], [42, 60], [58, 60]], np.float32)


def two_colours(count: int = 12) -> tuple[list[np.ndarray], Pair]:
    """A dark half and a bright half, with a face each."""
    frame = np.full((100, 200, 3), 50, np.uint8)
    frame[:, 100:] = 200
    points = np.stack([POINTS, POINTS + np.array([100, 0], np.float32)])
    boxes = np.array([[35, 30, 30, 36], [135, 30, 30, 36]], np.float32)
    return [frame.copy() for _ in range(count)], Pair(np.stack([points] * count), np.stack([boxes] * count))


def at(frames: list[np.ndarray]) -> np.ndarray:
    """Brightness in the middle of both faces, [T, 2]."""
    return np.array([[frame[50, 50, 0], frame[50, 150, 0]] for frame in frames], float)


def test_a_face_is_laid_over_another_by_a_share_and_nothing_around() -> None:
    (frame, *_), where = two_colours()
    half = laid(frame, where.points[0, 0], frame, where.points[0, 1], 0.5)
    assert half[50, 50, 0] == pytest.approx(125, abs=2)
    assert (half[:, 100:] == 200).all()
    assert (half[:15] == frame[:15]).all()
    assert (laid(frame, where.points[0, 0], frame, where.points[0, 1], 0.0) == frame).all()


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("swap", [50] * 6 + [200] * 6, [200] * 6 + [50] * 6),
        ("blend", [50] * 12, [125] * 12),
        ("duplicate", [50] * 12, [200] * 6 + [50] * 6),
        ("drift", [50] * 12, list(200 - 75 * np.arange(12) / 11)),
    ],
)
def test_faults_last_and_weigh_what_their_level_says(name: str, first: list[float], second: list[float]) -> None:
    frames, where = two_colours()
    fault = next(fault for fault in FAULTS if fault.name == name)
    made = at(faulty(frames, where, fault, "medium", 12))
    np.testing.assert_allclose(made, np.stack([first, second], 1), atol=3)


def test_an_exchange_that_fades_is_both_in_between() -> None:
    frames, where = two_colours(24)
    fault = next(fault for fault in FAULTS if fault.name == "swap_fade")
    made = at(faulty(frames, where, fault, "medium", 24))
    assert made[0].tolist() == [50, 200]
    assert made[-1] == pytest.approx([200, 50], abs=3)
    assert 4 <= ((made[:, 0] > 60) & (made[:, 0] < 190)).sum() <= 8


def test_a_leak_changes_clothes_and_no_face_and_hidden_people_are_left_alone() -> None:
    frames, where = two_colours()
    fault = next(fault for fault in FAULTS if fault.name == "leak")
    made = faulty(frames, where, fault, "strong", 12)
    assert at(made).tolist() == at(frames).tolist()
    assert made[0][90, 150, 0] == pytest.approx(50, abs=2)
    where.points[3, 0] = np.nan
    assert (faulty(frames, where, FAULTS[0], "strong", 12)[3] == frames[3]).all()


def test_the_share_of_windows_is_counted_over_clips_and_against_a_floor() -> None:
    rng = np.random.default_rng(0)
    table = {}
    for name, _, _ in COLUMNS:
        for variant in people.VARIANTS:
            worse = 0.5 if variant[0] == "swap" and name != "matched anew" else 0.0
            table[name, variant] = worse + rng.normal(0, 0.01, 8)
    cells = tuple(people._cells([table, table]))
    found = PeopleValidation({"a": 8}, cells, {"b": "no face"})
    assert found.share("identity.swap.sface@1", "swap", "medium") == 1
    assert found.share("matched anew", "swap", "medium") < 0.2  # type: ignore[operator]
    assert cells[0] == Seen("matched anew", "reencode", "mild", cells[0].worse, 16)
    text = markdown(found)
    assert "| identity.swap.sface@1 | 100/100/100 |" in text
    assert "b was left out: no face" in text


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("yunet", "sface"):
        published_file(name)
    path = tmp_path_factory.mktemp("people") / "both.mp4"
    video.encode(iter([pair(ANNA, BEN)] * 12), path, 12)
    return path


def test_two_people_are_found_and_an_exchange_is_missed_where_faces_are_matched_anew(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = (people.CLEAN, ("reencode", "mild"), ("reencode", "strong"), ("swap", "medium"))
    monkeypatch.setattr(people, "VARIANTS", variants)
    monkeypatch.setattr(people, "Cache", lambda: Cache(tmp_path))
    found = footage(clip)
    assert found.pair.points[0, 0, :, 0].max() < found.pair.points[0, 1, :, 0].min()  # from the left
    made = validate_people([clip], lambda work: map(people.observe, work))
    assert made.clips == {"both.mp4": 1}
    for name in ("identity.similarity.sface@1", "identity.swap.sface@1", "identity.gap.sface@1"):
        assert made.share(name, "swap", "medium") == 1, name
    assert {cell.metric for cell in made.cells} == {name for name, _, _ in COLUMNS}
    assert faces.FAULTS


def test_a_clip_without_two_people_is_left_out_with_a_reason(clip: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.mp4"
    video.encode(iter([scene((ANNA, 80, 60))] * 12), alone, 12)
    with pytest.raises(Unscorable, match="no two people"):
        footage(alone)
    with pytest.raises(UserError, match=r"alone\.mp4: no two people"):
        validate_people([alone], lambda work: iter(()))


def test_a_head_is_exchanged_with_all_that_a_network_looks_at() -> None:
    frames, where = two_colours()
    fault = next(fault for fault in FAULTS if fault.name == "swap_heads")
    made = faulty(frames, where, fault, "strong", 12)[0]
    eyes = 20
    for middle, other in ((50, 200), (150, 50)):
        inside = made[50 - eyes : 50 + eyes, middle - eyes : middle + eyes, 0]
        assert np.abs(inside.astype(int) - other).max() <= 2


def test_the_table_fits_a_narrow_terminal() -> None:
    from rich.console import Console

    cells = tuple(
        Seen(name, fault.name, s, 1, 2) for name, _, _ in COLUMNS for fault in FAULTS for s in people.STRENGTHS
    )
    found = PeopleValidation({"a": 2}, cells, {})
    for width, shown in ((80, "50"), (140, "50/50/50")):
        console = Console(width=width, record=True, file=None)
        with console.capture() as text:
            console.print(people.terminal(found, width))
        said = text.get()
        assert "similarity.sface" in said
        assert shown in said
        assert "…" not in said
