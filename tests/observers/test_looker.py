"""The looker: one pass for all that is due, entries of earlier versions, and an observer that the project has not."""

import hashlib
import json

import numpy as np
import pytest

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.errors import Unscorable
from ipa_bench.observers.base import Observer, ObserverInfo
from ipa_bench.observers.hands import OBSERVER_ID
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.table import HANDS, OBSERVERS, PIXELS, versions
from ipa_bench.types import HandTracks, Observation
from ipa_bench.video import keep
from tests.hands import made_up


@pytest.fixture
def clips(tmp_path):
    """Two files that nobody can decode: what is known of them is in the cache."""
    paths = tmp_path / "made.mp4", tmp_path / "truth.mp4"
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def entry(cache, kind, key):
    """Where version 0.1 keeps the arrays of a kind under a key."""
    path = cache / kind / key[:2] / f"{key}.npz"
    path.parent.mkdir(parents=True)
    return path


def stored_hands(cache, clip, tracks):
    """The hands of a clip as version 0.1 stores them."""
    key = hashlib.sha256(clip.read_bytes()).hexdigest()
    np.savez(
        entry(cache, f"{OBSERVER_ID}-{video.DECODER}", key), landmarks=tracks.landmarks, world=tracks.world,
        presence=tracks.presence, box=tracks.box, sharpness=tracks.sharpness, change=tracks.change,
        found=tracks.found, times=tracks.times, size=np.array(tracks.size),
    )  # fmt: skip
    return key


def test_entries_as_version_0_1_keeps_them_are_found(clips, tmp_path):
    made, truth = clips
    hands = made_up(5), made_up(6, seed=1)
    folder = tmp_path / "cache"
    keys = [stored_hands(folder, clip, tracks) for clip, tracks in zip(clips, hands, strict=True)]
    times = [hashlib.sha256(tracks.times.tobytes()).hexdigest() for tracks in hands]
    pair = hashlib.sha256(json.dumps([*keys, OBSERVER_ID, times]).encode()).hexdigest()
    names = [f"{kind}.{region}" for kind in ("mse", "l1", "ssim") for region in ("frame", "hand", "rest")]
    pixels = {name: np.arange(5.0) + place for place, name in enumerate(names)}
    np.savez(entry(folder, f"pixels@1-{video.DECODER}", pair), **pixels)
    distances = {region: np.arange(5.0) / 10 for region in ("frame", "hand", "rest")}
    embedded = next(info for info in OBSERVERS if info.name == "lpips.embedded")
    network = embedded.make(1, "litert")
    np.savez(entry(folder, f"{network.kind()}-{video.DECODER}", pair), **distances)

    looker = Looker(Cache(folder), observers=(HANDS, PIXELS, embedded))
    assert network.kind().startswith("perceptual@1-lpips.embedded-")
    assert looker.knows(made)
    assert looker.knows(made, truth)
    found = looker.look(made, ["pixels", "lpips.embedded"], truth).observations
    assert set(found) == {"hands", "pixels", "lpips.embedded"}
    for name, array in pixels.items():
        np.testing.assert_array_equal(found["pixels"][name], array)
    for region, array in distances.items():
        np.testing.assert_array_equal(found["lpips.embedded"][region], array)
    tracks = looker.hands(made)
    for name in (*HandTracks.ARRAYS, "times"):
        np.testing.assert_array_equal(getattr(tracks, name), getattr(hands[0], name))
    assert (tracks.size, tracks.observer, tracks.sha256) == ((640, 480), OBSERVER_ID, keys[0])


class Brightness(Observer):
    """An observer as somebody would add it: a mean, and no network."""

    id = "brightness@1"

    def __init__(self, fails=False):
        self.fails, self.sessions = fails, 0

    def start(self, truth=None):
        self.sessions += 1
        self.values, self.due = [], truth
        return self

    def push(self, image, time):
        reference = 0.0 if self.due is None else float(next(self.due.images).mean())
        self.values.append(float(image.mean()) - reference)

    def finish(self):
        if self.fails:
            raise Unscorable("too dark")
        return {"mean": np.array(self.values)}


def line(observer, name="brightness", beside=None):
    return ObserverInfo(name, observer.id, ("light",), lambda *_: observer, beside)


def pictures(level, frames=3, fps=8.0):
    return video.video_from_frames(np.full((frames, 48, 64, 3), level, np.uint8), fps)


def test_a_new_observer_is_a_session_and_a_line(tmp_path, monkeypatch):
    passes = []
    frames = Looker._frames
    monkeypatch.setattr(
        Looker, "_frames", lambda self, source, *kept: passes.append(source.sha256) or frames(self, source, *kept)
    )
    own, compared = Brightness(), Brightness()
    observers = (HANDS, PIXELS, line(own), line(compared, "contrast", "hands"))
    bright, dark = pictures(200), pictures(150)
    looker = Looker(Cache(tmp_path), observers=observers)
    found = looker.look(bright, ["brightness", "contrast"], dark)
    assert found.observations["brightness"]["mean"].tolist() == [200.0] * 3
    assert found.observations["contrast"]["mean"].tolist() == [50.0] * 3
    assert found.reasons == {}
    # The ground truth's hands; then all three observers in one pass, which reads the ground truth beside it.
    assert sorted(passes) == sorted([dark.sha256, bright.sha256, dark.sha256])
    again = Looker(Cache(tmp_path), observers=observers).look(bright, ["brightness", "contrast"], dark)
    assert (own.sessions, compared.sessions, len(passes)) == (1, 1, 3)
    assert again.observations["contrast"].sha256 == found.observations["contrast"].sha256 != bright.sha256
    # Only what is asked for is taken.
    assert set(looker.look(dark, ["hands"]).observations) == {"hands"}
    with pytest.raises(ValueError, match="ground truth is needed for contrast"):
        looker.look(bright, ["contrast"])


def test_a_ground_truth_is_decoded_once_for_its_hands_and_for_all_that_is_compared_with_it(tmp_path, monkeypatch):
    decoded = []
    read = video.read_frames
    for room in (keep, video):
        monkeypatch.setattr(room, "read_frames", lambda path, **how: decoded.append(path.stem) or read(path, **how))
    paths = [tmp_path / f"{name}.mp4" for name in ("truth", "one", "other")]
    for level, path in zip((150, 190, 120), paths, strict=True):
        video.encode(pictures(level).frames, path, 8)
    truth, *models = paths
    observers = (HANDS, PIXELS, line(Brightness(), "contrast", "hands"))
    looker = Looker(Cache(tmp_path / "cache"), observers=observers)
    found = [looker.look(model, ["pixels", "contrast"], truth).observations for model in models]
    assert decoded == ["truth", "one", "other"]
    # Whoever finds the hands in the cache decodes it once too.
    new = Brightness()
    new.id = "brightness@2"
    later = Looker(Cache(tmp_path / "cache"), observers=(HANDS, line(new, "contrast", "hands")))
    again = [later.look(model, ["contrast"], truth).observations["contrast"] for model in models]
    assert decoded[3:] == ["one", "truth", "other"]
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one["contrast"]["mean"], other["mean"])


def test_what_an_observer_cannot_see_is_its_reason_and_that_of_those_beside_it(tmp_path):
    blind, beside = Brightness(fails=True), Brightness()
    looker = Looker(Cache(tmp_path), observers=(HANDS, line(blind), line(beside, "contrast", "brightness")))
    one, other = pictures(1), pictures(2)
    assert looker.look(one, ["brightness"]).reasons == {"brightness": "too dark"}
    found = looker.look(one, ["hands", "contrast"], other)
    assert found.reasons == {"brightness": "too dark", "contrast": "too dark"}
    assert set(found.observations) == {"hands"}


def test_an_observation_is_cut_by_frames_and_knows_where_it_saw_something():
    tracks = made_up(4)
    seen = tracks.observation
    assert seen.found.shape == (4, 2)
    part = HandTracks.of(seen.at(np.array([1, 3])))
    np.testing.assert_array_equal(part.landmarks, tracks.landmarks[[1, 3]])
    assert (part.size, part.times.tolist()) == (tracks.size, tracks.times[[1, 3]].tolist())
    compared = Observation("x@1", "", {"a": np.array([np.nan, 1.0, np.nan]), "b": np.array([np.nan, np.nan, 2.0])})
    assert compared.found.tolist() == [False, True, True]


def test_a_run_records_every_observer_and_the_hand_models():
    expected = {"hands": "hands@2", "pixels": "pixels@1", "lpips": "perceptual@1", "models": "mediapipe 0.10.21"}
    assert versions() == expected
