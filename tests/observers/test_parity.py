"""The hand observer against MediaPipe itself: golden numbers of its graph, and its Tasks runtime live."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video
from ipa_bench.errors import UserError
from ipa_bench.observers.mediapipe.palm import MIN_PRESENCE, TASKS_TILT, HandNet
from ipa_bench.observers.mediapipe.tasks import TasksHands

GOLDEN = json.loads((Path(__file__).parents[1] / "references" / "mediapipe_golden.json").read_text())
CLIPS = tuple(GOLDEN["clips"])


@pytest.fixture(scope="module")
def runtime():
    try:
        found = TasksHands()
    except UserError as error:
        pytest.skip(str(error))
    yield found
    found.close()


def _frames(path, every):
    return [Image.fromarray(f.image) for i, f in enumerate(video.read_frames(path)) if i % every == 0]


def _hands(net, image):
    return [h for h in (net.hand(image, palm) for palm in net.palms(image)) if h.presence >= MIN_PRESENCE]


def _compare(ours, theirs):
    """Error of the nearest of our hands to each of theirs, in hand sizes."""
    errors = []
    for points in theirs:
        size = np.ptp(points, axis=0).max()
        near = [float(np.linalg.norm(h.landmarks - points, axis=1).mean() / size) for h in ours]
        errors += [min(near)] if near else []
    return errors


@pytest.mark.parametrize("clip", CLIPS)
def test_landmarks_world_and_presence_are_those_of_the_graph(whole_media, clip):
    net, errors, differences, world = HandNet(), [], [], []
    for image, golden in zip(_frames(whole_media / clip, GOLDEN["every"]), GOLDEN["clips"][clip], strict=True):
        looked = [net.hand(image, palm) for palm in net.palms(image)]
        ours = [hand for hand in looked if hand.presence >= MIN_PRESENCE]
        assert len(ours) == len(golden["landmarks"])
        errors += _compare(ours, [np.array(points) for points in golden["landmarks"]])
        if len(golden["presence"]) == len(looked) == 1 and golden["presence"][0] > 0.9:
            differences.append(abs(looked[0].presence - golden["presence"][0]))
        if len(ours) == len(golden["world"]) == 1:
            theirs = np.array(golden["world"][0])
            world.append(np.linalg.norm(ours[0].world - theirs, axis=1).mean() / np.ptp(theirs, axis=0).max())
    assert len(errors) > 30
    assert np.median(errors) < 0.015
    assert len(differences) > 30
    assert np.median(differences) < 0.002
    assert np.quantile(differences, 0.95) < 0.01
    assert np.median(world) < 0.02


@pytest.mark.parametrize("clip", CLIPS)
def test_landmarks_are_those_of_the_tasks_runtime_once_its_region_is_turned_as_it_turns_it(whole_media, runtime, clip):
    turned, upright = HandNet(TASKS_TILT), HandNet()
    same, ours, theirs = [], 0, 0
    for image in _frames(whole_media / clip, 20):
        official = runtime.find(image)
        same += _compare(_hands(turned, image), [hand.landmarks for hand in official])
        ours += len(_hands(upright, image))
        theirs += len(official)
    assert np.median(same) < 0.015
    assert ours >= theirs


def test_tasks_without_the_turn_differ_so_the_constant_is_needed(whole_media, runtime):
    upright, turned, plain, tilted = HandNet(), HandNet(TASKS_TILT), [], []
    for image in _frames(whole_media / "gesture_1280x720.mp4", 15):
        official = [hand.landmarks for hand in runtime.find(image)]
        plain += _compare(_hands(upright, image), official)
        tilted += _compare(_hands(turned, image), official)
    assert np.median(plain) > 2 * np.median(tilted)
