"""Each policy against an independent, slower implementation; what is true of all of them; what sets them apart."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from ipa_bench.errors import UserError
from ipa_bench.observers.features.policies import ALIASES, KINETICS_MEAN, POLICIES, SCALES, policy

#: landscape, portrait, square, already 224, one pixel off, enlarged, and sizes whose scale is not exact in floats
SIZES = [(360, 640), (1024, 576), (300, 300), (224, 224), (225, 224), (224, 225), (100, 60), (180, 320), (360, 360)]
#: the references are slow
few = settings(max_examples=12)
images = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


def picture(height, width, seed=0):
    """Texture with hard edges."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    image[height // 3 :, : width // 2] //= 4
    image[height // 4 : height // 2, width // 4 :] = (255, 0, 128)
    return image


def unit(values):
    """0-255 -> [-1, 1], channels first."""
    return (np.asarray(values, np.float64) / 127.5 - 1).transpose(2, 0, 1)


def off(one, other):
    """Largest difference. (pytest.approx takes seconds for a frame.)"""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    assert one.shape == other.shape
    return np.abs(one - other).max()


def striped(values):
    """Two rows of grey columns of the given values."""
    return np.broadcast_to(np.array(values, np.uint8)[None, :, None], (2, len(values), 3)).copy()


# ---------------------------------------------------------------------------------------------------------------------
# the references


def _reference_tf(image, size):
    """TensorFlow 1's resize_bilinear, align_corners=False, pixel by pixel."""
    height, width, _ = image.shape
    out = np.zeros((size, size, 3))
    for i in range(size):
        for j in range(size):
            y, x = float(np.float32(i) * np.float32(height / size)), float(np.float32(j) * np.float32(width / size))
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            for c in range(3):
                top = image[y0, x0, c] * (1 - (x - x0)) + image[y0, x1, c] * (x - x0)
                bottom = image[y1, x0, c] * (1 - (x - x0)) + image[y1, x1, c] * (x - x0)
                out[i, j, c] = top * (1 - (y - y0)) + bottom * (y - y0)
    return unit(out)


def _reference_styleganv(image, size):
    """What common_metrics does, with PyTorch, on the whole frame."""
    height, width, _ = image.shape
    ratio = size / min(height, width)
    target = (size, math.ceil(width * ratio)) if height < width else (math.ceil(height * ratio), size)
    tensor = torch.from_numpy(image).permute(2, 0, 1).float()[None] / 255
    tensor = F.interpolate(tensor, size=target, mode="bilinear", align_corners=False)[0]
    top, left = (tensor.shape[1] - size) // 2, (tensor.shape[2] - size) // 2
    return ((tensor[:, top : top + size, left : left + size] - 0.5) * 2).numpy()


def _reference_disco(image, size):
    """DisCo: each channel a float image."""
    channels = [Image.fromarray(np.ascontiguousarray(image[:, :, c]).astype(np.float32)) for c in range(3)]
    assert {channel.mode for channel in channels} == {"F"}
    return unit(np.stack([np.asarray(c.resize((size, size), Image.Resampling.BICUBIC)) for c in channels], -1))


def _weights(length, size, kernel, support, low=0.0, high=None):
    """Rows of a separable filter that is widened when shrinking: ``[size, length]``, pixel by pixel."""
    scale = ((length if high is None else high) - low) / size
    wide = max(scale, 1.0)
    matrix = np.zeros((size, length))
    for i in range(size):
        centre = low + (i + 0.5) * scale
        for j in range(length):
            distance = abs(j + 0.5 - centre) / wide
            if int(centre - support * wide + 0.5) <= j < int(centre + support * wide + 0.5):
                matrix[i, j] = kernel(distance)
        matrix[i] /= matrix[i].sum()
    return matrix


def _cubic(x):
    """Keys' kernel with a = -1/2."""
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def _triangle(x):
    return max(1 - x, 0.0)


# ---------------------------------------------------------------------------------------------------------------------
# each against its reference


@few
@given(images, st.integers(1, 12))
def test_tf_is_the_legacy_bilinear(image, size):
    assert off(POLICIES["tf"].frame(image, size), _reference_tf(image, size)) < 2e-6


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tf_on_real_sizes(size):
    # np.interp is a third implementation: linear between pixel positions, held beyond the last
    image = picture(*size)
    rows, columns = (np.arange(224) * np.float32(n / 224) for n in size)
    down = np.stack([[np.interp(rows, np.arange(size[0]), image[:, x, c]) for x in range(size[1])] for c in range(3)])
    both = np.stack([[np.interp(columns, np.arange(size[1]), down[c, :, y]) for y in range(224)] for c in range(3)])
    assert off(POLICIES["tf"].frame(image), both / 127.5 - 1) < 5e-4  # positions are float32


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_styleganv_is_interpolate_and_crop(size):
    image = picture(*size)
    # PyTorch's code for old processors rounds positions twice
    near = 2e-6 if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") else 1e-4
    assert off(POLICIES["styleganv"].frame(image), _reference_styleganv(image, 224)) < near


@few
@given(images, st.integers(1, 12))
def test_styleganv_on_any_size(image, size):
    assert off(POLICIES["styleganv"].frame(image, size), _reference_styleganv(image, size)) < 5e-6


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("side", [224, 112])
def test_disco_is_pillows_bicubic_on_floats(size, side):
    image = picture(*size)
    assert off(POLICIES["disco-legacy"].frame(image, side), _reference_disco(image, side)) < 1e-6


@few
@given(images, st.integers(1, 12))
def test_disco_is_keys_kernel_widened(image, size):
    down, across = (_weights(n, size, _cubic, 2.0) for n in image.shape[:2])
    slow = np.einsum("ih,hwc,jw->ijc", down, image.astype(np.float64), across)
    assert off(POLICIES["disco-legacy"].frame(image, size), unit(slow)) < 1e-5


@few
@given(images, st.integers(1, 12))
def test_clean_is_the_middle_square_filtered(image, size):
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) / 2, (width - side) / 2
    down = _weights(height, size, _triangle, 1.0, top, top + side)
    across = _weights(width, size, _triangle, 1.0, left, left + side)
    slow = np.einsum("ih,hwc,jw->ijc", down, image.astype(np.float64), across)
    levels = (POLICIES["clean"].frame(image, size) + 1) * 127.5
    assert off(levels, levels.round()) < 1e-4
    assert off(levels, (unit(slow) + 1) * 127.5) < 1.01  # rounded twice, once for each axis


def test_by_hand():
    """Four columns out of two, 0 and 100: where pixels are read is what sets the policies apart."""
    row = {name: (POLICIES[name].frame(striped([0, 100]), 4)[0, 0] + 1) * 127.5 for name in ("tf", "disco-legacy")}
    # at 0, 0.5, 1, and 1.5, which is beyond the last pixel
    assert row["tf"] == pytest.approx([0, 50, 100, 100], abs=1e-4)
    # Keys at distances 0.75 and 0.25 (the pixels outside are left out): 0.2265625 and 0.8671875, normalised
    part = 100 * 0.2265625 / (0.2265625 + 0.8671875)
    assert row["disco-legacy"][1:3] == pytest.approx([part, 100 - part], abs=1e-4)
    # the outer two are at distances 0.25 and 1.25, where the kernel is negative: below black, above white
    part = 100 * -0.0703125 / (0.8671875 - 0.0703125)
    assert row["disco-legacy"][[0, 3]] == pytest.approx([part, 100 - part], abs=1e-4)
    wide = (POLICIES["styleganv"].frame(striped([0, 100]), 4)[0, 0] + 1) * 127.5
    # half-pixel centres: -0.25 (held), 0.25, 0.75, 1.25 (held)
    assert wide == pytest.approx([0, 25, 75, 100], abs=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# all of them


@pytest.mark.parametrize("name", POLICIES)
@few
@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), colour=st.tuples(*[st.integers(0, 255)] * 3))
def test_a_constant_image_stays_constant(name, shape, colour):
    image = np.broadcast_to(np.array(colour, np.uint8), (*shape, 3))
    made = POLICIES[name].frame(image, 16)
    assert off(made, np.broadcast_to(unit([[colour]]), (3, 16, 16))) < 2e-6


@pytest.mark.parametrize("name", [name for name, made in POLICIES.items() if made.bounded])
@few
@given(image=images, size=st.integers(1, 12))
def test_values_stay_between_the_least_and_the_most(name, image, size):
    made = (POLICIES[name].frame(image, size).astype(np.float64) + 1) * 127.5
    assert made.min() >= image.min() - 1e-4
    assert made.max() <= image.max() + 1e-4
    assert np.abs(POLICIES[name].frame(image, size)).max() <= 1


@few
@given(image=images, size=st.integers(1, 12))
def test_discos_overshoot_has_a_bound(image, size):
    # each pass has weights that sum to 1 and to at most 1.25 in absolute value: ((1.25 + 1) / 2)^2 of the range
    assert np.abs(POLICIES["disco-legacy"].frame(image, size)).max() <= 1.25**2 + 1e-3


def test_disco_overshoots_as_the_original_does():
    assert not POLICIES["disco-legacy"].bounded
    made = POLICIES["disco-legacy"].frame(np.repeat(striped([0, 0, 255, 255]), 2, axis=0), 16)
    assert made.min() < -1.05
    assert made.max() > 1.05


@pytest.mark.parametrize("name", POLICIES)
def test_224_stays_224(name):
    image = picture(224, 224)
    exactly = image.astype(np.float32) / np.float32(127.5) - np.float32(1)
    assert np.array_equal(POLICIES[name].frame(image), exactly.transpose(2, 0, 1))


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("scale", SCALES)
def test_a_clip_is_its_frames(name, scale):
    frames = np.stack([picture(40, 60, seed) for seed in range(3)])
    clip = POLICIES[name](frames, 32, scale)
    assert clip.shape == (3, 3, 32, 32)
    assert clip.dtype == np.float32
    assert clip.flags.c_contiguous
    for index in range(3):
        single = POLICIES[name].frame(frames[index], 32, scale)
        assert single.flags.c_contiguous
        assert np.array_equal(clip[:, index], single)


@pytest.mark.parametrize("name", POLICIES)
def test_frames_need_not_be_contiguous(name):
    image = picture(50, 90)
    assert np.array_equal(POLICIES[name].frame(image[:, ::-1]), POLICIES[name].frame(image[:, ::-1].copy()))


@pytest.mark.parametrize("name", POLICIES)
def test_the_kinetics_mean_is_subtracted_and_nothing_is_divided(name):
    image = np.full((20, 30, 3), (120, 100, 255), np.uint8)
    made = POLICIES[name].frame(image, 8, "kinetics-mean")
    # 120 - 114.7748, 100 - 107.7354, 255 - 99.4750
    assert made[:, 3, 3] == pytest.approx([5.2252, -7.7354, 155.525], abs=1e-4)
    assert made.dtype == np.float32
    assert KINETICS_MEAN == (114.7748, 107.7354, 99.4750)


def test_the_policies_differ():
    """They are not four names of one thing: RMS difference on texture that is shrunk, on 0-255."""
    image = picture(512, 512)
    made = {name: made.frame(image) * 127.5 for name, made in POLICIES.items()}
    for one in made:
        for other in made:
            if one < other:
                assert np.sqrt(np.mean((made[one] - made[other]) ** 2)) > 3, (one, other)


# ---------------------------------------------------------------------------------------------------------------------
# names and refusals


def test_names():
    assert list(POLICIES) == ["tf", "styleganv", "disco-legacy", "clean"]
    assert all(name == made.name and made.origin and made.version >= 1 for name, made in POLICIES.items())
    assert all(policy(alias) is POLICIES[name] for alias, name in ALIASES.items())
    with pytest.raises(
        UserError, match=r"policy called 'google' \(use one of tf, styleganv, disco-legacy, clean, disco"
    ):
        policy("google")


@pytest.mark.parametrize(
    ("image", "size", "scale", "match"),
    [
        (np.zeros((4, 4, 3), np.float32), 8, "symmetric", "uint8"),
        (np.zeros((4, 4), np.uint8), 8, "symmetric", r"\[4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), 8, "symmetric", r"\[0, 4, 3\]"),
        (np.zeros((4, 4, 3), np.uint8), 0, "symmetric", "at least 1"),
        (np.zeros((4, 4, 3), np.uint8), 8, "imagenet", "one of symmetric, kinetics-mean"),
    ],
)
def test_what_is_no_frame_is_refused(image, size, scale, match):
    with pytest.raises(ValueError, match=match):
        POLICIES["tf"].frame(image, size, scale)


@pytest.mark.parametrize("shape", [(4, 4, 3), (0, 4, 4, 3)])
def test_what_is_no_clip_is_refused(shape):
    with pytest.raises(ValueError, match="T, H, W, 3"):
        POLICIES["tf"](np.zeros(shape, np.uint8))
