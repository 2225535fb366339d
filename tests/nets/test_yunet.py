"""YuNet against OpenCV's own runtime, and its file."""

import numpy as np
import pytest
import torch

from ipa_bench.errors import UserError
from ipa_bench.nets.onnx import dequantised, fields, parse_onnx
from ipa_bench.nets.yunet import detect, load_yunet, overlaps
from tests.nets.faces import ABOUT, NAMES, opencv_faces, picture
from tests.nets.golden import published_file


@pytest.fixture(scope="module")
def net():
    return load_yunet(published_file("yunet"))


def test_boxes_points_and_scores_are_opencvs(net):
    count, off = 0, 0.0
    for name in NAMES:
        box, points, score = opencv_faces(name)
        (found,) = detect(net, picture(name)[None], ABOUT["score"])
        assert len(found.score) == len(score), name
        count += len(score)
        off = max(off, np.abs(found.box - box).max(), np.abs(found.points - points).max())
        assert found.score == pytest.approx(score, abs=1e-4)
    assert count >= 20
    assert off < 0.01, f"{off:.2g} px"


def test_a_batch_is_its_pictures(net):
    pictures = np.stack([picture("gesture_0"), picture("gesture_0")[:, ::-1], np.zeros_like(picture("gesture_0"))])
    together = detect(net, pictures, 0.6)
    for one, whole in zip(pictures, together, strict=True):
        (alone,) = detect(net, one[None], 0.6)
        assert alone.box == pytest.approx(whole.box, abs=1e-3)
        assert alone.points == pytest.approx(whole.points, abs=1e-3)
    assert [len(each.score) for each in together] == [1, 1, 0]


def test_the_person_s_right_eye_is_first(net):
    (found,) = detect(net, picture("glasses_180")[None], 0.6)
    right_eye, left_eye, nose, right_corner, left_corner = found.points[0]
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_corner[0] < left_corner[0]
    assert right_eye[1] < nose[1] < right_corner[1]


@pytest.mark.parametrize("shape", [(4, 32, 32), (1, 32, 32, 4), (0, 32, 32, 3)])
def test_another_shape_is_refused(net, shape):
    with pytest.raises(ValueError, match="faces are looked for in uint8"):
        detect(net, np.zeros(shape, np.uint8))


def test_the_network_takes_padded_sides_alone(net):
    with pytest.raises(ValueError, match="multiples of 32"):
        net(torch.zeros(1, 3, 32, 40))


def test_overlap_by_hand():
    box = np.array([0, 0, 4, 4], np.float32)
    others = np.array([[0, 0, 4, 4], [2, 2, 4, 4], [4, 0, 4, 4], [1, 1, 2, 2]], np.float32)
    assert overlaps(box, others) == pytest.approx([1, 4 / 28, 0, 4 / 16])


# ---- the file


def test_weights_in_blocks_by_hand():
    values = np.array([[10, 20, 30, 40, 50], [1, 2, 3, 4, 5]], np.int8)
    scales = np.array([[1, 0.5, 2], [0.1, 1, 10]], np.float32)
    zeros = np.array([[0, 10, 0], [1, 0, -5]], np.int8)
    made = dequantised(values, scales, zeros, 1, 2)
    assert made == pytest.approx(np.array([[10, 20, 10, 15, 100], [0, 0.1, 3, 4, 100]]))
    down = dequantised(values.T.copy(), scales.T.copy(), zeros.T.copy(), 0, 2)
    assert down == pytest.approx(made.T)
    with pytest.raises(ValueError, match="in blocks of 1 for"):
        dequantised(values, scales, zeros, 1, 1)


def test_fields_of_a_message_by_hand():
    # field 1 = 150 as a varint, field 2 = "ab", field 3 = four bytes
    assert list(fields(b"\x08\x96\x01\x12\x02ab\x1d\x01\x02\x03\x04")) == [
        (1, 150),
        (2, b"ab"),
        (3, b"\x01\x02\x03\x04"),
    ]
    assert list(fields(b"\x08" + b"\xff" * 9 + b"\x01")) == [(1, 2**64 - 1)]
    for broken in (b"\x12\x05ab", b"\x08\xff", b"\x0b", b"\x08" + b"\xff" * 11):
        with pytest.raises(ValueError, match=r"cut off|wire type|longer"):
            list(fields(broken))


def test_a_file_that_is_cut_off_or_another_is_refused_in_one_line(tmp_path):
    whole = published_file("yunet").read_bytes()
    with pytest.raises(ValueError, match="cut off"):
        parse_onnx(whole[:-1])
    for name, data in {"cut": whole[:60_000], "empty": b"", "text": b"no network at all"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="is no ONNX file") as told:
            load_yunet(tmp_path / name)
        assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="is another network"):
        load_yunet(published_file("sface"))
    with pytest.raises(UserError, match="cannot read"):
        load_yunet(tmp_path / "none")
