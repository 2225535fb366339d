"""A frame is made a picture once for all who look at it, and only where nobody writes into it."""

import threading

import numpy as np

from ipa_bench import video


def frame(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, np.uint8)


def test_outside_every_call_makes_its_own() -> None:
    image = frame(1)
    first = video.picture(image)
    image[:] = 9
    assert video.picture(image) is not first
    np.testing.assert_array_equal(np.asarray(video.picture(image)), image)


def test_inside_the_last_two_frames_are_made_once() -> None:
    one, two, three = (frame(i) for i in range(3))
    with video.pictures_shared():
        a, b = video.picture(one), video.picture(two)
        assert (video.picture(one), video.picture(two)) == (a, b)
        assert video.picture(one) is a
        assert video.picture(one.copy()) is not a  # another array, whatever is in it
        with video.pictures_shared():
            assert video.picture(two) is not b
        video.picture(two), video.picture(three)
        np.testing.assert_array_equal(np.asarray(video.picture(one)), one)
    assert video.picture(two) is not b


def test_another_thread_shares_nothing() -> None:
    image, made = frame(5), []
    with video.pictures_shared():
        first = video.picture(image)
        worker = threading.Thread(target=lambda: made.append(video.picture(image)))
        worker.start()
        worker.join()
    assert made[0] is not first
