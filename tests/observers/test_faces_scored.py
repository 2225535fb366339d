"""Who is who from a file to a number: a case with reference pictures, scored."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.harness import floor
from ipa_bench.harness.details import details
from ipa_bench.metrics.table import DEFAULT, METRICS, find
from ipa_bench.observers.looker import Looker
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case
from tests.nets.faces import picture
from tests.nets.golden import published_file
from tests.observers.test_faces import ANNA, BEN, pair, scene

NAMES = tuple(f"identity.{name}.sface" for name in ("similarity", "coverage", "swap", "gap", "extra"))


def written(path, frames):
    video.encode(iter(frames), path, 8)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    for name in ("yunet", "sface"):
        published_file(name)
    root = tmp_path_factory.mktemp("faces")
    written(root / "both.mp4", [pair(ANNA, BEN)] * 8)
    written(root / "swapped.mp4", [pair(ANNA, BEN)] * 4 + [pair(BEN, ANNA)] * 4)
    written(root / "alone.mp4", [scene((picture("glasses_110"), 80, 60))] * 8)
    for name, image in {"anna": "glasses_180", "ben": "astronaut_180"}.items():
        Image.fromarray(picture(image)).save(root / f"{name}.png")
    Image.fromarray(scene()).save(root / "blank.png")
    return root


@pytest.fixture
def scorer(folder):
    """What one test has seen of the clips the others know."""
    yield from _scorer(folder / "cache")


@pytest.fixture
def fresh(tmp_path):
    yield from _scorer(tmp_path / "cache")


def _scorer(cache):
    looker = Looker(Cache(cache))
    yield Scorer(looker, NAMES)
    looker.close()


def test_two_people_by_name(folder, scorer):
    people = (("anna", folder / "anna.png"), ("ben", folder / "ben.png"))
    case = Case("duo", folder / "both.mp4", folder / "both.mp4", references=people)
    same = scorer.score(folder / "both.mp4", case)
    assert same["identity.similarity.sface"].value > 0.6
    assert same["identity.gap.sface"].value == pytest.approx(0, abs=1e-9)
    assert same["identity.swap.sface"].value == 0
    swapped = scorer.score(folder / "swapped.mp4", case)
    assert swapped["identity.swap.sface"].value == pytest.approx(0.5)
    assert swapped["identity.gap.sface"].value > 0.2
    assert len(swapped["identity.similarity.sface"].series) == 8
    alone = scorer.score(folder / "alone.mp4", case)
    assert alone["identity.coverage.sface"].value == pytest.approx(0.5)


def test_what_a_report_draws_of_people(folder, scorer):
    people = (("anna", folder / "anna.png"), ("ben", folder / "ben.png"))
    case = Case("duo", folder / "both.mp4", folder / "both.mp4", references=people)
    drawn = details(scorer.score(folder / "swapped.mp4", case), case).people
    assert drawn.names == ("anna", "ben")
    assert drawn.whose.tolist() == [[0, 1]] * 4 + [[1, 0]] * 4
    assert drawn.found.all()
    assert drawn.expected.all()
    assert (drawn.likeness[:4] > 0.6).all()
    assert (drawn.likeness[4:] < 0.3).all()
    # places are the people's, whoever's face is there; anna stands left
    centres = (drawn.box[..., 0] + drawn.box[..., 2]) / 2
    assert (centres[:, 0] < 0.4).all()
    assert (centres[:, 1] > 0.6).all()
    inside = (drawn.points >= drawn.box[:, :, None, :2]) & (drawn.points <= drawn.box[:, :, None, 2:])
    assert inside.all()
    assert drawn.pictures == tuple(str(path) for _, path in people)
    alone = details(scorer.score(folder / "alone.mp4", case), case).people
    assert alone.found.tolist() == [[True, False]] * 8
    assert alone.whose.tolist() == [[0, -1]] * 8
    nobody = Case("duo", folder / "both.mp4", None)
    assert details(scorer.score(folder / "both.mp4", nobody), nobody).people is None


def test_one_person_by_the_reference_image_or_the_driving_video(folder, scorer):
    case = Case("solo", folder / "alone.mp4", folder / "alone.mp4", folder / "anna.png", identity="anna")
    by_image = scorer.score(folder / "alone.mp4", case)["identity.similarity.sface"]
    by_frame = scorer.score(folder / "alone.mp4", replace(case, reference=None))["identity.similarity.sface"]
    assert by_frame.value > by_image.value > 0.6
    assert (
        "anna: no face"
        in scorer.score(folder / "alone.mp4", replace(case, reference=folder / "blank.png"))[
            "identity.similarity.sface"
        ].reason
    )
    nobody = replace(case, reference=None, ground_truth=None)
    assert scorer.score(folder / "alone.mp4", nobody)["identity.similarity.sface"].reason.startswith(
        "the case has no ref"
    )
    extra = scorer.score(folder / "both.mp4", case)["identity.extra.sface"]
    assert extra.value == pytest.approx(1)


def test_what_was_seen_is_not_looked_at_again(folder, fresh, monkeypatch):
    case = Case("solo", folder / "alone.mp4", folder / "alone.mp4", folder / "anna.png", identity="anna")
    first = fresh.score(folder / "alone.mp4", case)
    monkeypatch.setattr("ipa_bench.observers.faces.FaceSession.push", None)
    monkeypatch.setattr("ipa_bench.observers.faces.ReferenceSession.push", None)
    again = fresh.score(folder / "alone.mp4", case)
    for name in NAMES:
        assert again[name].value == first[name].value, name


def test_a_re_encode_is_the_noise_floor(folder, scorer):
    people = (("anna", folder / "anna.png"), ("ben", folder / "ben.png"))
    record = floor.measure(Case("duo", folder / "both.mp4", folder / "both.mp4", references=people), scorer)
    assert 0 < record.changes["identity.similarity.sface@1"] < 0.1
    assert 0 < record.changes["identity.gap.sface@1"] < 0.1
    assert record.reasons["identity.swap.sface@1"] == "no value to compare"  # it has no floor


def test_nothing_is_looked_for_that_nobody_asks_for(folder, tmp_path, monkeypatch):
    assert not any(metric.asked for metric in DEFAULT)
    assert len(METRICS) > len(DEFAULT)
    assert find("identity.similarity.dlib").asked
    monkeypatch.setattr("ipa_bench.observers.faces.FaceObserver.load", None)
    case = Case("solo", folder / "alone.mp4", folder / "alone.mp4", folder / "anna.png")
    scores = Scorer(Looker(Cache(tmp_path)), ["hand.recall", "frame.psnr"]).score(folder / "alone.mp4", case)
    assert np.isfinite(scores["frame.psnr"].value)
