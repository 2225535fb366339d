"""The judge: exact joints, no detector, blind to nothing that a person sees in a rendered hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ipa_bench import video
from ipa_bench.embedded import world
from ipa_bench.errors import Unscorable
from ipa_bench.metrics.table import find
from ipa_bench.nets.embedded import FOLDER
from ipa_bench.nets.hand_joints import JOINTS, HandJoints, load_joints
from ipa_bench.observers.base import Truth
from ipa_bench.observers.judge import JudgeObserver
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case, Observation

#: people of val that no network was trained on
PEOPLE = 4


@pytest.fixture(scope="module")
def clips():
    return [world.clip("val", 500 + i, 0) for i in range(PEOPLE)]


def judged(clip, frames, scene):
    times = np.arange(len(clip.frames)) / clip.fps
    seen = Observation("hands@x", "0" * 64, {"times": times, "size": np.array([world.SIZE] * 2)})
    session = JudgeObserver().start(Truth(seen, iter(clip.frames), scene))
    for image, time in zip(frames, times, strict=False):
        session.push(image, float(time))
    return session.finish()["error"]


def mean_error(clips, change):
    return float(
        np.mean([judged(c, change(c.frames), world.scene_name("val", 500 + i, 0)).mean() for i, c in enumerate(clips)])
    )


def test_rendered_hands_are_where_they_are(clips):
    assert mean_error(clips, lambda f: f) < 0.045


def test_worse_pictures_are_judged_worse(clips):
    """The damage ladder: each step is further off, and nothing is left where nothing is to be seen."""
    blurred = [
        mean_error(clips, lambda f, s=s: gaussian_filter(f.astype(np.float32), (0, s, s, 0)).astype(np.uint8))
        for s in (0, 2, 4, 8)
    ]
    assert blurred == sorted(blurred)
    grey = mean_error(clips, lambda f: np.full_like(f, 128))
    assert grey > 5 * blurred[0]
    assert grey > 0.2


def test_the_hands_of_another_clip_are_wrong(clips):
    own = mean_error(clips, lambda f: f)
    others = [
        judged(c, clips[(i + 1) % PEOPLE].frames, world.scene_name("val", 500 + i, 0)).mean()
        for i, c in enumerate(clips)
    ]
    assert np.mean(others) > 4 * own


def test_it_takes_frames_of_any_size_and_leaves_out_what_has_no_partner(clips):
    clip = clips[0]
    large = clip.frames.repeat(2, 1).repeat(2, 2)
    scene = world.scene_name("val", 500, 0)
    assert judged(clip, large, scene) == pytest.approx(judged(clip, clip.frames, scene), abs=0.03)
    times = np.arange(len(clip.frames)) / clip.fps
    seen = Observation("hands@x", "0" * 64, {"times": times, "size": np.array([world.SIZE] * 2)})
    session = JudgeObserver().start(Truth(seen, iter(clip.frames), scene))
    session.push(clip.frames[0], 0.0)
    session.push(clip.frames[0], 99.0)
    error = session.finish()["error"]
    assert np.isfinite(error[0]).all()
    assert np.isnan(error[1]).all()


def test_a_truth_of_another_length_is_refused(clips):
    seen = Observation("hands@x", "0" * 64, {"times": np.arange(3.0), "size": np.array([world.SIZE] * 2)})
    session = JudgeObserver().start(Truth(seen, iter(clips[0].frames), world.scene_name("val", 500, 0)))
    with pytest.raises(Unscorable, match="3 frames, its scene 17"):
        session.finish()


def test_a_case_of_the_world_is_judged_and_another_says_why_not(tmp_path: Path, clips):
    file = tmp_path / "clip.mp4"
    video.encode(clips[0].frames, file, world.FPS, crf=12)
    scorer = Scorer(metrics=["truth.hand_error"])
    case = Case("c", file, file, world=world.scene_name("val", 500, 0))
    judged = scorer.score(file, case)["truth.hand_error"]
    assert judged.value is not None
    assert judged.value < 0.06
    assert scorer.score(file, replace(case, world=None))["truth.hand_error"].reason == (
        "the case is no clip of one person of the built-in world"
    )


def test_it_shares_no_family_with_what_selects():
    judge, quality = find("truth.hand_error").info, find("hand_quality").info
    assert not set(judge.family) & set(quality.family)
    assert judge.sealed


def test_the_shipped_file_is_small_and_its_own(tmp_path: Path):
    assert (FOLDER / JOINTS).stat().st_size <= 1_500_000
    from ipa_bench.errors import UserError

    (tmp_path / JOINTS).write_bytes(b"another file")
    with pytest.raises(UserError, match="not the file that this version ships"):
        load_joints(tmp_path)


def test_joints_of_a_crop_do_not_depend_on_the_batch():
    import torch

    torch.manual_seed(0)
    net, crops = HandJoints().eval(), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        alone = torch.cat([net(crop[None]) for crop in crops])
        assert torch.allclose(net(crops), alone, atol=1e-5)
