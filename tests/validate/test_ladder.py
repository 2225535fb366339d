"""Versions of a clip as ``validate`` observes them: what is not looked at twice is what looking would have seen."""

import numpy as np
import pytest

from ipa_bench.cache import Cache
from ipa_bench.models.damage import find
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.pixels import PixelSession
from ipa_bench.validate import ladder


@pytest.mark.parametrize("variant", [("lag", "mild"), ("stutter", "medium"), ("slow", "medium")])
def test_frames_at_other_times_are_seen_as_a_look_at_them_sees_them(variant, footage, tmp_path):
    """The clean version's hands in another order, against the same frames put in order, stored and looked at."""
    from ipa_bench import video

    clip = footage.longer / "anna__wide.mp4"
    cache = Cache(tmp_path)
    hands = Looker(cache).hands(clip)
    quick = ladder.observe_variant(clip, variant, hands, cache)
    truth = PixelSession(hands, (frame.image for frame in video.read_frames(clip)))
    name, strength = variant
    slow = ladder._observed(ladder._stored(clip, hands, find(name), strength), hands, truth)
    assert (quick["found"] == slow["found"]).mean() > 0.9
    both = quick["found"] & slow["found"]
    apart = np.linalg.norm(quick["landmarks"] - slow["landmarks"], axis=-1).mean(axis=-1)[both]
    size = np.ptp(slow["landmarks"], axis=2).max(axis=2)[both]
    assert np.median(apart / size) < 0.02
    still = slow["change"][both] < 0.01  # repeated frames
    assert (quick["change"][both][still] < 0.01).mean() > 0.9
    np.testing.assert_allclose(quick["mse.frame"], slow["mse.frame"], rtol=0.3, atol=2.0)
    again = ladder.observe_variant(clip, variant, hands, cache)
    assert all(np.array_equal(again[key], quick[key]) for key in quick)
