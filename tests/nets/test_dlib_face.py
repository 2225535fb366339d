"""dlib's face network: its file to the last byte, and dlib's own numbers where they were made."""

import numpy as np
import pytest
import torch

from ipa_bench.errors import UserError
from ipa_bench.nets.align import aligned
from ipa_bench.nets.dlib_face import POINTS, SAME, SIDE, DlibFace, load_dlib_face, read_dlib
from tests.nets.faces import NAMES, auc, embeddings, opencv_faces, pairs, picture
from tests.nets.golden import published_file


@pytest.fixture(scope="module")
def net():
    return load_dlib_face(published_file("dlib_face"))


def embedded(net, name):
    with torch.inference_mode():
        return net(aligned(picture(name), opencv_faces(name)[1], POINTS, SIDE)).numpy()


def test_numbers_are_dlibs(net):
    count, off = 0, 0.0
    for name in NAMES:
        expected = embeddings(name, "dlib")
        off = max(off, np.linalg.norm(embedded(net, name) - expected, axis=1).max())
        count += len(expected)
    assert count >= 20
    assert off < 1e-4, f"off by {off:.2g}, of a length of about 1.4"


def test_people_are_told_apart(net):
    same, different = pairs(net, embedded, lambda a, b: np.linalg.norm(a - b))
    assert auc(-same, -different) > 0.99
    assert np.mean(same < SAME) > 0.9
    assert (different > SAME).all()


def test_the_file_is_read_to_the_last_byte(tmp_path):
    file = published_file("dlib_face")
    layers = read_dlib(file)
    assert len(layers) == 59
    assert sum(len(layer) for layer in layers) == sum(t.numel() for t in DlibFace().state_dict().values()) + sum(
        len(layer) for layer in layers[1:-1:2]
    )
    whole = file.read_bytes()
    wrong = {
        "is not dlib's face network: cut off: 1 bytes": whole[:-1],
        "1 bytes left over": whole + b"0",
        "cut off": whole[:10_000],
        "version is": b"\x01\x02" + whole[2:],
        "layer 'con_5' where 'con_4' should be": whole.replace(b"con_4", b"con_5", 1),
        "number 3 of a convolution": whole.replace(
            bytes([1, 32, 1, 7, 1, 7, 1, 2]), bytes([1, 32, 1, 7, 1, 7, 1, 1]), 1
        ),
    }
    for told, data in wrong.items():
        (tmp_path / "wrong.dat").write_bytes(data)
        with pytest.raises(UserError, match=told):
            load_dlib_face(tmp_path / "wrong.dat")
    with pytest.raises(UserError, match="cannot read"):
        read_dlib(tmp_path / "none.dat")


def test_a_batch_is_its_faces_and_another_shape_is_refused(net):
    faces = aligned(picture("four"), opencv_faces("four")[1], POINTS, SIDE)
    with torch.inference_mode():
        together = net(faces)
        alone = torch.cat([net(face[None]) for face in faces])
    assert torch.allclose(together, alone, atol=1e-5)
    with pytest.raises(ValueError, match="takes"):
        net(torch.zeros(1, 3, 112, 112))
