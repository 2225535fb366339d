"""The two shipped nets: against written-out arithmetic, and on freshly rendered people whom neither was trained on."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ipa_bench.embedded import world
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.nets import embedded
from ipa_bench.nets.checkpoint import read
from ipa_bench.nets.embedded import EmbeddedLpips, EmbeddedVideoNet, load_image, load_video
from ipa_bench.nets.fold import prepare
from trainers.embedded.nets.samples import blurred, noisy, shifted, wrong_hands, wrong_person

#: people of val; none is among those of the nets' own held-out figures
FIRST, PEOPLE = 100, 8
MIDDLE = 8


@pytest.fixture(scope="module")
def video():
    return load_video()


@pytest.fixture(scope="module")
def image():
    return load_image()


@pytest.fixture(scope="module")
def clips():
    return [world.clip("val", FIRST + identity, 0) for identity in range(PEOPLE)]


@pytest.fixture(scope="module")
def frames(clips):
    return np.stack([clip.frames[:16] for clip in clips])


def features(net, frames):
    """uint8 [N, T, H, W, 3] -> float64 [N, 64]."""
    given = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return net(given).double().numpy()


def moved(net, clean, frames):
    """How far the mean feature moves, in the deviations that features of different people have."""
    return float(np.linalg.norm(features(net, frames).mean(0) - clean.mean(0)) / np.sqrt(clean.var(0).sum()))


def distances(net, one, others):
    """LPIPS of a picture to each of several."""
    return [float(net.distance(net.features(one[None]), net.features(other[None]))[0]) for other in others]


# ---------------------------------------------------------------------------------------------------------------------
# files


def test_the_files_are_small_and_in_half_precision():
    files = [embedded.FOLDER / name for name in (embedded.VIDEO, embedded.IMAGE)]
    assert sum(file.stat().st_size for file in files) < 700_000
    for file in files:
        for name, tensor in read(file).items():
            assert tensor.dtype == (torch.float32 if ".bn." in name else torch.float16), name
            assert bool(tensor.isfinite().all()), name


@pytest.mark.parametrize(("name", "load"), [(embedded.VIDEO, load_video), (embedded.IMAGE, load_image)])
def test_a_changed_or_missing_file_is_refused(name, load, tmp_path):
    with pytest.raises(UserError, match=rf"cannot read .*{name}"):
        load(folder=tmp_path)
    shutil.copy(embedded.FOLDER / name, tmp_path / name)
    assert load(folder=tmp_path).origin == embedded.ORIGIN
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="is not the file that this version ships"):
        load(folder=tmp_path)


def test_neither_calls_itself_comparable(video, image):
    assert not video.comparable
    assert not image.comparable
    assert not video.training
    assert not image.training
    assert not any(parameter.requires_grad for net in (video, image) for parameter in net.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in video.modules())


# ---------------------------------------------------------------------------------------------------------------------
# arithmetic


def slow_unit(state, name, x, stride=(1, 1, 1)):
    """Convolution with SAME padding, batch norm and ReLU in float64, from the stored tensors."""
    weight = state[f"{name}.conv3d.weight"].double()
    pads = []
    for size, kernel, step in zip(x.shape[2:], weight.shape[2:], stride, strict=True):
        total = max((-(-size // step) - 1) * step + kernel - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    y = F.conv3d(F.pad(x, pads), weight, stride=stride)
    mean, var, gain, shift = (
        state[f"{name}.bn.{part}"].double()[:, None, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return ((y - mean) / torch.sqrt(var + 1e-3) * gain + shift).clamp(min=0)


def slow_block(state, name, x):
    b0 = slow_unit(state, f"{name}.b0", x)
    b1 = slow_unit(state, f"{name}.b1b", slow_unit(state, f"{name}.b1a", x))
    b2 = slow_unit(state, f"{name}.b2b", slow_unit(state, f"{name}.b2a", x))
    return torch.cat([b0, b1, b2], 1)


def slow_video(state, x):
    x = F.max_pool3d(slow_unit(state, "Conv3d_1a_5x5", x, (2, 2, 2)), (1, 2, 2), ceil_mode=True)
    x = slow_unit(state, "Conv3d_2c_3x3", x)
    x = F.max_pool3d(x, (1, 2, 2), ceil_mode=True)
    x = slow_block(state, "Mixed_3c", slow_block(state, "Mixed_3b", x))
    x = F.max_pool3d(x, (2, 2, 2), ceil_mode=True)
    x = slow_block(state, "Mixed_4c", slow_block(state, "Mixed_4b", x))
    x = slow_unit(state, "Conv3d_5a_1x1", F.max_pool3d(x, (1, 2, 2), ceil_mode=True))
    weight, bias = state["features.weight"].double(), state["features.bias"].double()
    return torch.einsum("ncthw,fchw->nft", x, weight[:, :, 0]).mean(2) + bias


@pytest.mark.parametrize("length", [9, 16, 17])
def test_features_are_those_of_the_slow_float64_network(video, length):
    state = read(embedded.FOLDER / embedded.VIDEO)
    clip = torch.from_numpy(np.random.default_rng(length).uniform(-1, 1, (2, 3, length, 128, 128)))
    expected, found = slow_video(state, clip), video(clip.float())
    assert found.shape == (2, 64)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_a_clip_does_not_depend_on_its_batch(video, frames):
    both = features(video, frames[:2])
    np.testing.assert_allclose(both[1], features(video, frames[1:2])[0], atol=1e-4)
    assert np.abs(both[0] - both[1]).max() > 0.1


def test_preparing_it_again_changes_nothing(video, frames):
    assert np.array_equal(features(prepare(video), frames[:1]), features(video, frames[:1]))


def test_bfloat16_is_close(frames):
    exact, near = features(load_video(), frames[:4]), features(load_video(torch.bfloat16), frames[:4])
    assert 0 < np.abs(near - exact).max() < 0.1 * np.abs(exact).max()


def test_sizes_are_as_documented():
    assert sum(p.numel() for p in EmbeddedVideoNet().parameters()) == pytest.approx(0.19e6, abs=0.005e6)
    lpips = EmbeddedLpips()
    assert sum(p.numel() for p in lpips.trunk.parameters()) == pytest.approx(84e3, abs=1e3)
    assert sum(p.numel() for p in lpips.heads.parameters()) == sum(lpips.channels) == 224
    maps = prepare(lpips).features(np.zeros((1, 128, 128, 3), np.uint8))
    assert [tuple(each.shape[1:]) for each in maps] == [
        *((16, 64, 64), (32, 32, 32), (48, 16, 16), (64, 16, 16), (64, 8, 8))
    ]


def test_lpips_is_the_weighted_difference_of_unit_maps(image, frames):
    state = read(embedded.FOLDER / embedded.IMAGE)
    pair = frames[:2, MIDDLE]
    x = torch.from_numpy(pair).permute(0, 3, 1, 2).double() / 127.5 - 1
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]).double(), torch.tensor([0.458, 0.448, 0.450]).double()
    x = (x - shift[:, None, None]) / scale[:, None, None]
    total = 0.0
    for place, (layer, pool) in enumerate([(0, False), (3, True), (6, True), (8, False), (11, True)]):
        x = F.max_pool2d(x, 2) if pool else x
        weight, bias = (state[f"trunk.features.{layer}.{part}"].double() for part in ("weight", "bias"))
        x = F.conv2d(x, weight, bias, stride=2 if layer == 0 else 1, padding=weight.shape[2] // 2).clamp(min=0)
        unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
        head = state[f"heads.lin{place}.model.1.weight"].double()
        total += float(((unit[0] - unit[1]).square() * head[0]).sum(0).mean())
    found = float(image.distance(image.features(pair[:1]), image.features(pair[1:]))[0])
    assert found == pytest.approx(total, rel=1e-4)
    assert found > 0.01


def test_no_head_is_negative():
    state = read(embedded.FOLDER / embedded.IMAGE)
    heads = [tensor for name, tensor in state.items() if name.startswith("heads.")]
    assert len(heads) == 5
    assert all(float(head.min()) >= 0 for head in heads)
    assert all(float(head.max()) > 0 for head in heads)


# ---------------------------------------------------------------------------------------------------------------------
# what they see


LEVELS = {
    "blur": (blurred, (0.7, 1.4, 2.8)),
    "noise": (partial(noisy, seed=5), (5.0, 10.0, 20.0)),
    "shift": (shifted, (1, 2, 4)),
}


@pytest.mark.parametrize("name", LEVELS)
def test_lpips_grows_with_the_strength_of_damage(image, frames, name):
    damage, levels = LEVELS[name]
    for picture in frames[:, MIDDLE]:
        found = distances(image, picture, [damage(picture, level) for level in levels])
        assert 0 < found[0] < found[1] < found[2]


def test_lpips_grows_with_wrong_hands_and_wrong_people(image, clips):
    right = []
    for index, clip in enumerate(clips):
        picture, other = clip.frames[MIDDLE], world.person_of("val", 5000 + index)
        people = [wrong_person(clip, MIDDLE, share, other) for share in (0.25, 0.5, 1.0)]
        hands = [wrong_hands(clip, MIDDLE, share, index) for share in (0.25, 0.5, 1.0)]
        assert np.array_equal(wrong_hands(clip, MIDDLE, 0.0, index), picture)
        assert np.array_equal(wrong_person(clip, MIDDLE, 0.0, other), picture)
        for others in (people, hands):
            found = distances(image, picture, others)
            assert min(found) > 0
            right += [found[0] < found[1], found[1] < found[2]]
    assert np.mean(right) > 0.9


def test_lpips_of_equal_pictures_is_0_and_of_brighter_ones_small(image, frames):
    for picture in frames[:4, MIDDLE]:
        same, brighter, soft = distances(
            image,
            picture,
            [picture.copy(), np.clip(picture.astype(int) + 1, 0, 255).astype(np.uint8), blurred(picture, 1)],
        )
        assert same == 0
        assert 0 < brighter < 0.2 * soft


@pytest.mark.parametrize("name", ["blur", "noise"])
def test_video_features_move_with_the_strength_of_damage(video, frames, name):
    damage, levels = LEVELS[name]
    clean = features(video, frames)
    found = [moved(video, clean, damage(frames, level)) for level in levels]
    assert 0 < found[0] < found[1] < found[2]
    # where in the frame somebody stands is no damage, and training moves the windows about
    assert moved(video, clean, shifted(frames, 4)) < found[1]


def test_video_features_move_with_wrong_people(video, clips):
    """All frames of a person who is more and more somebody else: single clips, since means over people cancel."""
    found = []
    for clip in clips[:4]:
        shares = [
            np.stack([wrong_person(clip, t, share, world.person_of("val", 6000)) for t in range(9)])
            for share in (0.0, 0.25, 1.0)
        ]
        one = features(video, np.stack(shares))
        found.append(np.linalg.norm(one[1:] - one[0], axis=1))
    near, far = np.mean(found, 0)
    assert 0 < near < far


def test_video_features_see_damage_over_time(video, frames):
    """Means over the same people, so that any shift is the damage; half of the people against the others is chance."""
    clean = features(video, frames)
    halves = [clean[::2], clean[1::2]]
    rng = np.random.default_rng(0)
    damages = {
        "shuffled": np.stack([clip[rng.permutation(16)] for clip in frames]),
        "reversed": frames[:, ::-1],
        "frozen": np.repeat(frames[:, MIDDLE : MIDDLE + 1], 16, 1),
        "stutter": frames[:, np.arange(16) // 4 * 4],
    }
    found = {name: moved(video, clean, damaged) for name, damaged in damages.items()}
    chance = float(np.linalg.norm(halves[0].mean(0) - halves[1].mean(0)) / np.sqrt(clean.var(0).sum()))
    assert found["shuffled"] > 2 * chance
    assert found["frozen"] > chance
    assert min(found.values()) > 0.2


# ---------------------------------------------------------------------------------------------------------------------
# bad inputs


def test_other_inputs_are_refused(video, image):
    for clip in (torch.zeros(1, 3, 16, 64, 64), torch.zeros(3, 16, 128, 128), torch.zeros(1, 3, 16, 128, 128).byte()):
        with pytest.raises(ValueError, match="takes float"):
            video(clip)
    with pytest.raises(Unscorable, match="9 frames or more, the clip has 8"):
        video(torch.zeros(1, 3, 8, 128, 128))
    for value in (1.01, -1.01, float("nan")):
        with pytest.raises(UserError, match=r"RGB in \[-1, 1\]"):
            video(torch.full((1, 3, 9, 128, 128), value))
    with pytest.raises(ValueError, match="LPIPS takes uint8"):
        image.features(np.zeros((1, 64, 64, 3), np.float32))
    with pytest.raises(UserError, match=r"RGB in \[-1, 1\]"):
        image.features_of_floats(torch.full((1, 3, 64, 64), 2.0))


def test_the_smallest_picture(image):
    assert image.features(np.zeros((1, 15, 40, 3), np.uint8))[-1].shape[2] == 1
    with pytest.raises(Unscorable, match="15 x 15 pixels or more, got 40 x 14"):
        image.features(np.zeros((1, 14, 40, 3), np.uint8))
    with pytest.raises(RuntimeError, match="too small"):
        image.trunk(torch.zeros(1, 3, 14, 40))
