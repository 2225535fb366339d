"""SFace and the alignment against OpenCV's own runtime."""

import numpy as np
import pytest
import torch

from ipa_bench.errors import UserError
from ipa_bench.nets.align import aligned, similarity
from ipa_bench.nets.sface import POINTS, SAME, SIDE, SFace, load_sface
from tests.nets.faces import NAMES, auc, cosines, embeddings, opencv_faces, pairs, picture
from tests.nets.golden import published_file


@pytest.fixture(scope="module")
def net():
    return load_sface(published_file("sface"))


def embedded(net, name):
    with torch.inference_mode():
        return net(aligned(picture(name), opencv_faces(name)[1], POINTS, SIDE)).numpy()


def test_embeddings_are_opencvs(net):
    count, least = 0, 1.0
    for name in NAMES:
        expected = embeddings(name, "sface")
        least = min(least, *cosines(embedded(net, name), expected))
        count += len(expected)
    assert count >= 20
    assert least >= 0.9999, f"cosine {least:.6f}"


def test_people_are_told_apart(net):
    same, different = pairs(net, embedded, lambda a, b: cosines([a], [b])[0])
    assert auc(same, different) > 0.999
    assert np.mean(same >= SAME) > 0.95
    assert (different < SAME).all()


def test_a_batch_is_its_faces(net):
    faces = aligned(picture("four"), opencv_faces("four")[1], POINTS, SIDE)
    with torch.inference_mode():
        together = net(faces)
        alone = torch.cat([net(face[None]) for face in faces])
    assert torch.allclose(together, alone, atol=1e-4)


def test_another_shape_and_another_file_are_refused(net):
    with pytest.raises(ValueError, match="SFace takes"):
        net(torch.zeros(1, 3, 112, 96))
    with pytest.raises(UserError, match="is another network"):
        load_sface(published_file("yunet"))
    assert net.comparable
    assert not SFace().comparable


# ---- alignment


def test_a_similarity_is_found_again():
    points = np.array([[1, 2], [5, 3], [4, 7], [0, 6], [2, 2]], np.float32)
    turn = 1.7 * np.exp(0.4j)
    moved = (points @ (1, 1j)) * turn + (3 - 2j)
    matrix = similarity(points, np.stack([moved.real, moved.imag], 1).astype(np.float32))
    expected = [[turn.real, -turn.imag, 3], [turn.imag, turn.real, -2]]
    assert matrix == pytest.approx(np.array(expected), abs=1e-5)
    with pytest.raises(ValueError, match="all in one place"):
        similarity(np.ones((5, 2), np.float32), points)


def test_a_similarity_is_scikit_images():
    transform = pytest.importorskip("skimage.transform")
    source = np.random.default_rng(3)
    for _ in range(20):
        one, other = source.uniform(0, 99, (2, 5, 2))
        wanted = transform.SimilarityTransform.from_estimate(one, other).params
        assert similarity(one, other) == pytest.approx(wanted[:2], abs=1e-8)


def test_samples_by_hand():
    image = np.arange(5 * 6, dtype=np.uint8).reshape(5, 6, 1).repeat(3, 2)
    square = np.array([[0, 0], [3, 0], [0, 3], [3, 3], [1, 1]], np.float32)
    same = aligned(image, square[None], square, 4)
    assert torch.equal(same[0, 0], torch.from_numpy(image[:4, :4, 0]).float())
    # Two to the right and one down; what is outside of the picture is black.
    moved = aligned(image, square[None], square + np.array([2, 1], np.float32), 4)
    assert moved[0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 6, 7], [0, 0, 12, 13]]
    # Enlarged twice: every second sample is a pixel, those between are means.
    doubled = aligned(2 * image, square[None], square * 2, 7)
    assert doubled[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert doubled[0, 1, :, 0].tolist() == [0, 6, 12, 18, 24, 30, 36]
    assert aligned(image, square[None] + 100, square, 4).sum() == 0
    assert aligned(image, np.zeros((0, 5, 2), np.float32), square, 4).shape == (0, 3, 4, 4)
