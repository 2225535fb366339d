"""Who is who: made-up tracks with known answers."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench.metrics import identity
from ipa_bench.metrics.people import LEAST_HEIGHT, People, assign, bound, exchanges, standing
from ipa_bench.types import Observation

HIGH, LOW = 0.7, 0.1


def people(whose, references=2, fps=10.0, **changes):
    """Tracks [T][N] of whose face is where: a reference's number, None for nobody there, "x" for a stranger."""
    frames, tracks = len(whose), len(whose[0])
    likeness, found = np.full((frames, tracks, references), LOW), np.ones((frames, tracks), bool)
    for t, row in enumerate(whose):
        for n, who in enumerate(row):
            if who is None:
                found[t, n], likeness[t, n] = False, 0.0
            elif who != "x":
                likeness[t, n, who] = HIGH
    made = People(
        likeness, found, found.copy(), np.ones((frames, references), bool), np.arange(frames) / fps, 0.363, True,
        np.where(found, 60.0, 0.0),
    )  # fmt: skip
    return replace(made, **changes)


def value(metric, made):
    measured = metric(made)
    assert measured.value is not None, measured.reason
    return measured.value


def per_frame_matching(made):
    """What peers do: match the faces to the references anew in every frame, and take the mean."""
    best = [max(sum(made.likeness[t, n, k] for k, n in enumerate(order)) for order in permutations(range(2)))
            for t in range(len(made.likeness))]  # fmt: skip
    return np.mean(best) / 2


# ---- similarity, coverage, margin, top1


def test_two_people_who_stay_who_they_are():
    made = people([[1, 0]] * 6)  # in which order the tracks are says nothing
    assert list(assign(made)) == [1, 0]
    assert value(identity.similarity, made) == pytest.approx(HIGH)
    assert value(identity.coverage, made) == 1
    assert value(identity.margin, made) == pytest.approx(HIGH - LOW)
    assert value(identity.top1, made) == 1
    for metric in (identity.swap, identity.swaps, identity.duplicate, identity.extra):
        assert value(metric, made) == 0
    assert value(identity.drift, made) == pytest.approx(0)


def test_a_missing_face_is_similarity_0_and_lowers_coverage():
    made = people([[0, 1], [0, None], [0, None], [0, 1]])
    assert value(identity.similarity, made) == pytest.approx((HIGH + HIGH / 2) / 2)
    assert value(identity.coverage, made) == pytest.approx(0.75)
    assert value(identity.margin, made) == pytest.approx((HIGH - LOW) * 0.75)
    assert value(identity.top1, made) == pytest.approx(0.75)
    assert identity.similarity(made).series == pytest.approx([HIGH, HIGH / 2, HIGH / 2, HIGH])


def test_frames_in_which_nobody_is_due_do_not_count():
    made = people([[0, 1], [0, None], [0, None], [0, 1]])
    expected = made.expected.copy()
    expected[1:3, 1] = False
    assert value(identity.similarity, replace(made, expected=expected)) == pytest.approx(HIGH)
    assert value(identity.coverage, replace(made, expected=expected)) == 1
    nobody = replace(made, expected=np.zeros_like(expected))
    for metric in (identity.similarity, identity.coverage, identity.extra):
        assert metric(nobody).reason == identity.NOT_EXPECTED


def test_a_small_face_is_left_out_and_says_so():
    made = people([[0], [0], [0]], references=1)
    judged, likeness = made.judged.copy(), made.likeness.copy()
    judged[1], likeness[1] = False, 0
    some = replace(made, judged=judged, likeness=likeness)
    assert value(identity.similarity, some) == pytest.approx(HIGH)
    assert np.isnan(identity.similarity(some).series[1])
    none = replace(made, judged=np.zeros_like(judged), likeness=np.zeros_like(likeness))
    assert f"{LEAST_HEIGHT:.0f} pixels" in identity.similarity(none).reason
    assert value(identity.coverage, none) == 1
    assert "pixels" in identity.facesim(some).reason


def test_nobody_there_at_all():
    made = people([[None, None]] * 3)
    assert value(identity.similarity, made) == 0
    assert value(identity.coverage, made) == 0
    assert identity.swap(made).reason == "no face is seen"
    empty = People(
        np.zeros((3, 0, 2)), np.zeros((3, 0), bool), np.zeros((3, 0), bool), np.ones((3, 2), bool), np.arange(3.0),
        0.4, True, np.zeros((3, 0)),
    )  # fmt: skip
    assert value(identity.similarity, empty) == value(identity.coverage, empty) == value(identity.extra, empty) == 0
    assert identity.duplicate(empty).reason == "no face is seen"


def test_one_person_has_nobody_to_be_taken_for():
    made = people([[0]] * 4, references=1)
    assert value(identity.similarity, made) == pytest.approx(HIGH)
    for metric in (identity.margin, identity.top1, identity.swap, identity.swaps):
        assert metric(made).reason == identity.ONE_PERSON


def test_a_stranger_is_unlike_but_no_swap():
    made = people([["x", 1]] * 4)
    assert value(identity.similarity, made) == pytest.approx((LOW + HIGH) / 2)
    assert value(identity.swap, made) == 0


# ---- swap


def test_a_swap_in_mid_clip_is_seen_and_matching_anew_in_each_frame_misses_it():
    steady, swapped = people([[0, 1]] * 10), people([[0, 1]] * 6 + [[1, 0]] * 4)
    assert per_frame_matching(swapped) == pytest.approx(per_frame_matching(steady))
    assert value(identity.similarity, swapped) == pytest.approx(0.6 * HIGH + 0.4 * LOW)
    assert value(identity.top1, swapped) == pytest.approx(0.6)
    assert value(identity.swap, swapped) == pytest.approx(0.4)
    assert value(identity.swaps, swapped) == 1
    there_and_back = people([[0, 1]] * 6 + [[1, 0]] * 2 + [[0, 1]] * 2)
    assert value(identity.swap, there_and_back) == pytest.approx(0.2)
    assert value(identity.swaps, there_and_back) == 2


def test_a_swap_of_the_whole_clip_is_one_only_where_poses_say_who_is_where():
    made = people([[1, 0]] * 5)
    assert value(identity.swap, made) == 0
    bound = replace(made, slot=np.array([0, 1]))
    assert value(identity.swap, bound) == 1
    assert value(identity.swaps, bound) == 1
    assert value(identity.top1, bound) == 0
    assert value(identity.similarity, bound) == pytest.approx(LOW)


def test_three_people_in_a_circle():
    made = people([[0, 1, 2]] * 6 + [[1, 2, 0]] * 3, references=3)
    assert value(identity.swap, made) == pytest.approx(1 / 3)
    assert value(identity.swaps, made) == 1
    two_of_three = people([[0, 1, 2]] * 6 + [[1, 0, 2]] * 3, references=3)
    assert value(identity.swap, two_of_three) == pytest.approx(2 / 9)


def test_hysteresis():
    made = people([[0, 1]] * 8)
    likeness = made.likeness.copy()
    likeness[2:5] = [[0.40, 0.45], [0.45, 0.40]]  # a little in favour of the exchange: within the gain
    assert value(identity.swap, replace(made, likeness=likeness)) == 0
    likeness[2] = [[0.1, 0.7], [0.7, 0.1]]  # an exchange that is clear once holds through what is unclear
    assert value(identity.swap, replace(made, likeness=likeness)) == pytest.approx(3 / 8)
    assert value(identity.swaps, replace(made, likeness=likeness)) == 2


def test_a_face_that_shows_the_hidden_other_is_exchanged():
    made = people([[0, 1]] * 4 + [[1, None]] * 2 + [[0, 1]] * 2)
    states = exchanges(standing(made))
    assert states.tolist() == [[0, 1]] * 4 + [[1, 0]] * 2 + [[0, 1]] * 2
    assert value(identity.swap, made) == pytest.approx((2 / 8 + 0) / 2)


def seen(faces, size=(100, 100)):
    """What an observer gives of [T][N] faces (x, y, height) or None, of numbers that do not matter."""
    found = np.array([[each is not None for each in row] for row in faces])
    places = [each or (0, 0, 0) for row in faces for each in row]
    box = np.array([(x - h / 2, y - h / 2, h, h) for x, y, h in places])
    count = np.arange(found.size, dtype=np.float32).reshape(*found.shape, 1)
    values = {"found": found, "box": box.reshape(*found.shape, 4).astype(np.float32), "numbers": count}
    return Observation("faces@1", "", {**values, "times": np.arange(len(found)) / 8.0, "size": np.array(size)})


def test_faces_take_the_places_of_the_truth_s_people():
    truth = seen([[(20, 50, 10), (80, 50, 10)]] * 4)
    clip = seen([
        [(80, 50, 10), (22, 50, 10), None],  # in another order
        [(20, 50, 10), None, (50, 50, 10)],  # one is missing, one in nobody's place
        [(30, 50, 10), (20, 50, 10), None],  # the nearer one takes the place
        [None, None, None],
    ])  # fmt: skip
    made = bound(clip, truth, np.array([0, 1]))
    assert made["found"].tolist() == [
        [True, True, False, False, False],
        [True, False, False, False, True],
        [True, False, True, False, False],
        [False] * 5,
    ]
    assert made["numbers"][0, :2, 0].tolist() == [1, 0]
    assert made["numbers"][1, [0, 4], 0].tolist() == [3, 5]
    assert made["numbers"][2, [0, 2], 0].tolist() == [7, 6]
    # Frames of another size show the same picture; a person whom the truth never shows has no place.
    large = seen([[(160, 100, 20), (40, 100, 20)]], size=(200, 200))
    assert bound(large, truth.at(np.array([0])), np.array([0, 1]))["numbers"][0, :2, 0].tolist() == [1, 0]
    assert bound(large, truth.at(np.array([0])), np.array([-1, 1]))["found"].tolist() == [[False, True, False, True]]


# ---- duplicate, extra


def test_one_person_twice():
    made = people([[0, 1]] * 6 + [[0, 0]] * 4)
    assert value(identity.duplicate, made) == pytest.approx(0.4)
    assert value(identity.swap, made) == 0  # nobody took the other's place: the first is still there
    faint = replace(made, same=0.8)
    assert value(identity.duplicate, faint) == 0


def test_more_faces_than_people():
    made = people([[0, 1, None]] * 6 + [[0, 1, "x"]] * 4)
    assert value(identity.extra, made) == pytest.approx(0.4)
    flicker = people([[0, 1, None]] * 8 + [[0, 1, "x"]] * 2)
    assert value(identity.extra, flicker) == 0


# ---- drift, gap, copy, FaceSim


def test_drift_is_what_is_lost_each_second():
    made = people([[0]] * 21, references=1)
    likeness = made.likeness.copy()
    likeness[:, 0, 0] = 0.8 - 0.1 * made.times
    drifting = replace(made, likeness=likeness)
    assert value(identity.drift, drifting) == pytest.approx(0.1)
    # A head that turns away in the ground truth too does not drift.
    assert value(identity.drift, replace(drifting, truth=likeness[:, :, 0] + 0.1)) == pytest.approx(0)
    assert "seen for" in identity.drift(people([[0]] * 4, references=1)).reason


def test_the_gap_to_the_truth_is_free_of_the_pose():
    made = people([[0], [0], [None], [0]], references=1)
    truth = np.array([[0.9], [0.7], [0.8], [np.nan]])
    assert value(identity.gap, replace(made, truth=truth)) == pytest.approx((0.2 + 0.0 + 0.8) / 3)
    assert identity.gap(made).reason == identity.NO_TRUTH


def test_a_copy_of_the_reference_by_hand():
    made = people([[0]] * 3, references=1)
    truth = np.full((3, 1), np.cos(0.8))

    def copied(to_reference, to_truth):
        likeness = np.full((3, 1, 1), np.cos(to_reference))
        return value(
            identity.copied,
            replace(made, likeness=likeness, truth=truth, truth_beside=np.full((3, 1), np.cos(to_truth))),
        )

    assert copied(0, 0.8) == pytest.approx(1)
    assert copied(0.8, 0) == pytest.approx(-1)
    assert copied(0.5, 0.5) == pytest.approx(0)
    assert copied(0.4, 0.6) == pytest.approx(0.25)
    assert identity.copied(made).reason == identity.NO_TRUTH


def test_facesim_skips_frames_without_a_face():
    made = people([[0], [None], [None], [0]], references=1)
    assert value(identity.facesim, made) == pytest.approx(HIGH)
    assert value(identity.similarity, made) == pytest.approx(HIGH / 2)
    assert value(identity.facesim, people([[None]] * 4, references=1)) == 0
    larger = people([["x", 0]] * 4, references=1, height=np.array([[80.0, 60.0]] * 4))
    assert value(identity.facesim, larger) == pytest.approx(LOW)  # the largest face, whoever it is
    assert "one person" in identity.facesim(people([[0, 1]])).reason
    long = people([[0]] * 160, references=1)
    likeness = long.likeness.copy()
    likeness[np.linspace(0, 159, 16).astype(int)] = -0.5
    assert value(identity.facesim, replace(long, likeness=likeness)) == 0


# ---- what must not matter, and what must


@st.composite
def clips(draw):
    frames, tracks, references = draw(st.integers(1, 8)), draw(st.integers(0, 4)), draw(st.integers(1, 3))
    source = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = source.random((frames, tracks)) < 0.8
    judged = found & (source.random((frames, tracks)) < 0.8)
    likeness = np.where(judged[..., None], source.uniform(-0.2, 1, (frames, tracks, references)), 0.0)
    expected = source.random((frames, references)) < 0.9
    return People(likeness, found, judged, expected, np.arange(frames) / 8, 0.363, True, np.where(found, 50.0, 0.0))


METRICS = (
    identity.similarity, identity.coverage, identity.margin, identity.top1, identity.swap, identity.swaps,
    identity.duplicate, identity.extra, identity.drift,
)  # fmt: skip


@given(clips(), st.randoms(use_true_random=False))
@settings(max_examples=12, deadline=None)
def test_the_order_of_tracks_and_of_people_does_not_matter(made, random):
    tracks, persons = (list(range(size)) for size in made.likeness.shape[1:])
    random.shuffle(tracks)
    random.shuffle(persons)
    other = replace(
        made,
        likeness=made.likeness[:, tracks][:, :, persons],
        found=made.found[:, tracks],
        judged=made.judged[:, tracks],
        height=made.height[:, tracks],
        expected=made.expected[:, persons],
    )
    for metric in METRICS:
        one, two = metric(made), metric(other)
        assert one.reason == two.reason, metric.__name__
        if one.value is not None:
            assert one.value == pytest.approx(two.value, abs=1e-9), metric.__name__


@given(clips())
@settings(max_examples=12, deadline=None)
def test_values_are_in_their_range_and_one_assignment_is_the_best(made):
    for metric in METRICS:
        measured = metric(made)
        if measured.value is not None:
            assert np.isfinite(measured.value)
            if metric in (identity.coverage, identity.top1, identity.swap, identity.duplicate):
                assert 0 <= measured.value <= 1
    weight = made.judged[:, :, None] & made.expected[:, None]
    gain = np.where(weight, made.likeness, 0).sum(0)
    tracks, persons = gain.shape
    width = max(tracks, persons)
    square = np.zeros((width, width))
    square[:tracks, :persons] = gain
    matched = min(tracks, persons)
    best = max(
        sum(gain[n, k] for n, k in pairs)
        for order in permutations(range(width))
        if len(pairs := [(n, k) for n, k in enumerate(order) if n < tracks and k < persons]) == matched
    )
    chosen = assign(made)
    assert sum(gain[n, k] for k, n in enumerate(chosen) if n >= 0) == pytest.approx(best, abs=1e-6)
    assert len({n for n in chosen if n >= 0}) == matched


@given(clips(), st.integers(0, 7))
@settings(max_examples=12, deadline=None)
def test_a_face_that_vanishes_never_raises_coverage(made, frame):
    frame %= len(made.times)
    fewer = replace(
        made,
        slot=assign(made),
        found=np.where(np.arange(len(made.times))[:, None] == frame, False, made.found),
        judged=np.where(np.arange(len(made.times))[:, None] == frame, False, made.judged),
        likeness=np.where(np.arange(len(made.times))[:, None, None] == frame, 0.0, made.likeness),
    )
    if made.expected.any():
        assert value(identity.coverage, fewer) <= value(identity.coverage, made) + 1e-12
