"""Faces joined to tracks: made-up boxes with known answers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_bench.observers.face_tracks import join

ANNA, BEN = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)


def joined(frames, fps=10.0):
    """Frames of (x, who) with faces of 10 pixels; the tracks of each frame."""
    boxes = [np.array([[x, 0, 10, 10] for x, _ in frame], np.float32).reshape(-1, 4) for frame in frames]
    numbers = [np.stack([who for _, who in frame]) if frame else None for frame in frames]
    return [track.tolist() for track in join(boxes, numbers, [n / fps for n in range(len(frames))])]


def test_two_people_keep_their_tracks_in_whatever_order_they_are_found():
    assert joined([[(0, ANNA), (40, BEN)], [(41, BEN), (1, ANNA)], [(2, ANNA), (42, BEN)]]) == [[0, 1], [1, 0], [0, 1]]


def test_who_exchange_their_faces_where_they_stand_keep_their_tracks():
    stand = [(0, ANNA), (15, BEN)]
    exchanged = [(0, BEN), (15, ANNA)]
    assert joined([stand, stand, exchanged, exchanged]) == [[0, 1]] * 4
    closer = [[(0, ANNA), (8, BEN)], [(0, BEN), (8, ANNA)]]
    assert joined(closer) == [[0, 1], [0, 1]]


def test_who_cross_keep_their_tracks():
    path = [[(4 * n, ANNA), (21 - 4 * n, BEN)] for n in range(6)]
    assert joined(path) == [[0, 1]] * 6


def test_a_face_that_was_hidden_goes_on_and_one_elsewhere_is_new():
    assert joined([[(0, ANNA)], [], [], [(6, ANNA)]]) == [[0], [], [], [0]]
    assert joined([[(0, ANNA)], [(60, ANNA)]]) == [[0], [1]]
    # A second later it may have gone further.
    assert joined([[(0, ANNA)], *[[]] * 10, [(25, ANNA)]]) == [[0], *[[]] * 10, [0]]


def test_another_size_is_another_face():
    boxes = [np.array([[0, 0, 10, 10]], np.float32), np.array([[-5, -5, 25, 25]], np.float32)]
    assert [t.tolist() for t in join(boxes, [ANNA[None], ANNA[None]], [0, 0.1])] == [[0], [1]]


def test_faces_whose_numbers_are_not_known_are_joined_by_place():
    blank = np.zeros(2, np.float32)
    assert joined([[(0, blank), (30, blank)], [(31, blank), (1, blank)]]) == [[0, 1], [1, 0]]


@given(st.lists(st.lists(st.floats(0, 100), max_size=4), max_size=6))
@settings(max_examples=12, deadline=None)
def test_a_track_has_one_face_a_frame_and_tracks_are_counted_from_0(places):
    tracks = joined([[(x, ANNA) for x in frame] for frame in places])
    assert [len(t) for t in tracks] == [len(frame) for frame in places]
    assert all(len(set(t)) == len(t) for t in tracks)
    seen = {n for t in tracks for n in t}
    assert seen == set(range(len(seen)))
