"""The face observers on real faces: where, whose, how small, and what two people who exchange their faces look like."""

import numpy as np
import pytest
from PIL import Image

from ipa_bench import weights
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.metrics import identity
from ipa_bench.metrics.people import DLIB as DLIB_NET
from ipa_bench.metrics.people import LADDER, beside, likenesses
from ipa_bench.metrics.people import SFACE as SFACE_NET
from ipa_bench.observers.faces import DLIB, SFACE, Face, FaceObserver, ReferenceObserver, shrunk
from ipa_bench.types import Observation
from tests.nets.faces import opencv_faces, picture
from tests.nets.golden import published_file

GREY = 110


@pytest.fixture(scope="module")
def observers():
    """(face observer, reference observer) by SFace."""
    for name in ("yunet", "sface"):
        published_file(name)
    both = FaceObserver(SFACE), ReferenceObserver(SFACE)
    assert [each.load() for each in both] == [None, None]
    return both


def scene(*placed, size=(256, 320)):
    """uint8 [H, W, 3]: pictures (or None) pasted at (left, top) on grey."""
    canvas = np.full((*size, 3), GREY, np.uint8)
    for each, left, top in placed:
        if each is not None:
            canvas[top : top + len(each), left : left + each.shape[1]] = each
    return canvas


def seen(observer, frames, fps=8.0):
    session = observer.start()
    with observer.working():
        for index, frame in enumerate(frames):
            session.push(frame, index / fps)
        return Observation(observer.id, "a clip", session.finish())


@pytest.fixture(scope="module")
def references(observers):
    """Two people's references: other pictures than those of the clips."""
    return [seen(observers[1], [picture(name)]) for name in ("glasses_180", "astronaut_180")]


def pair(left, right):
    return scene((left, 10, 20), (right, 180, 60))


ANNA, BEN = picture("glasses_110"), picture("astronaut_110")


# ---- one observer


def test_a_face_is_where_opencv_finds_it(observers):
    made = seen(observers[0], [picture("glasses_180")] * 2)
    box, points, _ = opencv_faces("glasses_180")
    assert made["found"].tolist() == [[True], [True]]
    # The picture is looked at enlarged to 640 pixels, which moves the box a little.
    assert made["box"][0, 0] == pytest.approx(box[0], abs=6)
    assert made["points"][0, 0] == pytest.approx(points[0], abs=6)
    assert made["times"].tolist() == [0, 0.125]
    assert made["size"].tolist() == [picture("glasses_180").shape[1], 180]


def test_threads_and_batches_change_nothing(observers):
    threaded = FaceObserver(SFACE, threads=2)
    assert threaded.load() is None
    frames = [pair(ANNA, BEN), pair(ANNA, None), pair(None, None), pair(ANNA, BEN), pair(BEN, ANNA)]
    one, two = seen(observers[0], frames), seen(threaded, frames)
    threaded.close()
    for name, array in one.values.items():
        assert np.array_equal(array, two[name]), name
    assert one["found"].sum(axis=1).tolist() == [2, 1, 0, 2, 2]


def test_a_clip_without_a_face(observers):
    made = seen(observers[0], [scene()] * 3)
    assert made["found"].shape == (3, 0)
    assert made["numbers"].shape[:2] == (3, 0)


def test_a_face_below_24_pixels_is_found_and_not_judged(observers, references):
    small = np.asarray(Image.fromarray(picture("glasses_64")).resize((27, 32), Image.Resampling.BILINEAR))
    made = seen(observers[0], [scene((small, 100, 100))] * 3)
    assert made["found"].all()
    assert made["box"][0, 0, 3] < 24
    assert not made["numbers"].any()
    people = beside(made, references[:1], SFACE_NET)
    assert "pixels high" in identity.similarity(people).reason
    assert identity.coverage(people).value == 1


def test_a_shrunk_face_keeps_its_points():
    image = np.full((200, 200, 3), 20, np.uint8)
    points = np.array([[80, 90], [120, 90], [100, 110], [85, 130], [115, 130]], np.float32)
    for x, y in points.astype(int):
        image[y - 2 : y + 3, x - 2 : x + 3] = 250
    face = Face(np.array([60, 60, 80, 100], np.float32), points, 1.0)
    part, (moved,) = shrunk(image, face, 50)
    assert part.shape[:2] == (100, 100)  # to the edges of the picture on all sides
    for x, y in moved:
        assert part[round(y), round(x)].min() > 150
    whole, (same,) = shrunk(image, face, 500)
    assert whole.shape[:2] == (200, 200)  # the margin ends at the picture's edges, and nothing is enlarged
    assert np.array_equal(same, points)


# ---- references


def test_a_reference_at_every_size(observers, references):
    ladder = references[0]["ladder"]
    assert ladder.shape == (1, len(LADDER), 128)
    steps = likenesses(ladder[0, 1:].astype(float), ladder[0, :-1].astype(float), SFACE_NET)
    assert steps.min() > 0.5
    # Of the sizes those nearest to the clip's face are the most alike.
    clip = seen(observers[0], [scene((picture("glasses_64"), 30, 30))])
    height = clip["box"][0, 0, 3]
    own = clip["numbers"][0, 0].astype(float)[None].repeat(len(LADDER), 0)
    alike = likenesses(own, ladder[0].astype(float), SFACE_NET)
    assert alike[np.abs(np.log(LADDER) - np.log(height)).argmin()] > alike[-1] - 0.02


def test_references_that_are_no_single_face_say_so(observers):
    for image, told in (
        (scene(), "no face is found"),
        (pair(ANNA, BEN), "more than one face"),
        (np.asarray(Image.fromarray(ANNA).resize((25, 30))), "no face is found|pixels high"),
    ):
        with pytest.raises(Unscorable, match=told) as error:
            seen(observers[1], [image])
        assert "\n" not in error.value.reason


# ---- real faces, two people


def exchanged(frames, start):
    return [pair(ANNA, BEN)] * start + [pair(BEN, ANNA)] * (frames - start)


def test_two_people_who_stay_and_who_exchange_their_faces(observers, references):
    steady = beside(seen(observers[0], [pair(ANNA, BEN)] * 6), references, SFACE_NET)
    swapped = beside(seen(observers[0], exchanged(10, 6)), references, SFACE_NET)
    assert identity.similarity(steady).value > 0.7
    assert identity.margin(steady).value > 0.5
    assert identity.top1(steady).value == 1
    assert identity.swap(steady).value == identity.duplicate(steady).value == identity.extra(steady).value == 0
    assert identity.swap(swapped).value == pytest.approx(0.4)
    assert identity.swaps(swapped).value == 1
    assert identity.top1(swapped).value == pytest.approx(0.6)
    # Each face is its own reference's throughout, if one may choose anew in every frame.
    anew = np.sort(swapped.likeness.max(axis=2), axis=1).mean()
    assert anew == pytest.approx(np.sort(steady.likeness.max(axis=2), axis=1).mean(), abs=0.02)


def test_where_the_truth_says_who_is_where_a_swap_throughout_is_one(observers, references):
    truth = seen(observers[0], [pair(ANNA, BEN)] * 4)
    swapped = seen(observers[0], [pair(BEN, ANNA)] * 4)
    free = beside(swapped, references, SFACE_NET)
    tied = beside(swapped, references, SFACE_NET, truth=truth)
    assert identity.swap(free).value == 0
    assert identity.swap(tied).value == 1
    assert identity.top1(tied).value == 0
    assert identity.gap(tied).value > 0.5
    # Both people stand in the half of the first: the second's place is empty, and one face is left over.
    crowded = seen(observers[0], [scene((ANNA, 10, 20), (BEN, 10, 140))] * 4)
    apart = beside(crowded, references, SFACE_NET, truth=truth)
    assert identity.coverage(apart).value == 0.5
    assert identity.extra(apart).value == 0
    assert identity.swap(apart).value == 0


def test_one_person_covered_and_one_twice(observers, references):
    covered = beside(seen(observers[0], [pair(ANNA, BEN)] * 3 + [pair(ANNA, None)] * 3), references, SFACE_NET)
    assert identity.coverage(covered).value == pytest.approx(0.75)
    assert identity.similarity(covered).value == pytest.approx(0.75 * 0.85, abs=0.1)
    twice = beside(seen(observers[0], [pair(ANNA, BEN)] * 3 + [pair(ANNA, ANNA)] * 3), references, SFACE_NET)
    assert identity.duplicate(twice).value == pytest.approx(0.5)
    assert identity.swap(twice).value == 0


def test_a_clip_beside_its_own_truth(observers, references):
    frames = [scene((picture(f"gesture_{n}"), 60, 30)) for n in (0, 24, 48, 72)]
    clip = seen(observers[0], frames)
    reference = seen(observers[1], [picture("gesture_168")])
    people = beside(clip, [reference], SFACE_NET, driving=clip, truth=clip)
    assert identity.gap(people).value == pytest.approx(0, abs=1e-6)
    assert identity.copied(people).value == pytest.approx(-1, abs=1e-3)
    nothing = beside(seen(observers[0], [scene()] * 4), [reference], SFACE_NET, driving=clip, truth=clip)
    assert identity.similarity(nothing).value == identity.coverage(nothing).value == 0
    assert identity.copied(nothing).reason == "no face is seen"
    blank = seen(observers[0], [frames[0], scene(), scene(), frames[3]])
    hidden = beside(blank, [reference], SFACE_NET, driving=clip, truth=clip)
    assert identity.coverage(hidden).value == 0.5
    assert identity.gap(hidden).value > 0.3
    # The other way about: what the truth does not show is not due.
    assert identity.coverage(beside(clip, [reference], SFACE_NET, driving=blank)).value == 1
    assert beside(clip, [reference], SFACE_NET, driving=blank).expected[:, 0].tolist() == [True, False, False, True]


def test_dlib_sees_the_same(references):
    published_file("dlib_face")
    clips, pictures = FaceObserver(DLIB), ReferenceObserver(DLIB)
    assert clips.load() is None
    assert pictures.load() is None
    own = [seen(pictures, [picture(name)]) for name in ("glasses_180", "astronaut_180")]
    people = beside(seen(clips, exchanged(6, 3)), own, DLIB_NET)
    assert identity.swap(people).value == pytest.approx(0.5)
    assert identity.similarity(people).value == pytest.approx(people.likeness.mean(), abs=0.02)
    stay = beside(seen(clips, [pair(ANNA, BEN)] * 2), own, DLIB_NET)
    assert identity.similarity(stay).value > DLIB_NET.same


# ---- what is missing


def test_networks_that_are_not_here(tmp_path, monkeypatch):
    monkeypatch.setenv("IPA_BENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("IPA_BENCH_WEIGHTS", raising=False)
    observer = FaceObserver(DLIB)
    assert "weights fetch" in observer.missing()
    assert "weights fetch" in observer.load()  # 93 MB are not downloaded unasked
    with pytest.raises(ValueError, match="loaded networks"):
        observer.start()

    def refuse(name):
        raise UserError(f"{name} is not what it should be", "fetch it again")

    monkeypatch.setattr(weights, "path", refuse)
    assert "is not what it should be" in FaceObserver(SFACE).load()


# ---- both networks


def test_a_frame_is_searched_for_faces_once_for_both_networks(monkeypatch):
    from ipa_bench.nets import yunet

    published_file("dlib_face")
    looked = []
    real = yunet.detect
    monkeypatch.setattr(yunet, "detect", lambda *given: looked.append(1) or real(*given))
    frames = [pair(ANNA, BEN), pair(ANNA, None), pair(BEN, ANNA)]
    for threads in (1, 2):
        both = [FaceObserver(embedder, threads) for embedder in (SFACE, DLIB)]
        assert [each.load() for each in both] == [None, None]
        sessions = [each.start() for each in both]
        looked.clear()
        with both[0].working():
            for index, frame in enumerate(frames):
                for session in sessions:
                    session.push(frame, index / 8)
            one, two = (session.finish() for session in sessions)
        assert len(looked) == len(frames)
        assert np.array_equal(one["box"], two["box"])
        for each in both:
            each.close()


def test_what_was_made_to_please_one_network_is_judged_by_the_other():
    from ipa_bench.metrics.table import is_evidence

    assert is_evidence("identity.top1.dlib", ["identity.similarity.sface"])
    assert not is_evidence("identity.top1.sface", ["identity.similarity.sface"])
