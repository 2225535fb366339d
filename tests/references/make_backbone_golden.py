"""Golden outputs of the backbones from other implementations, for random weights that the seed alone gives.

I3D and 3D-ResNet-50 are written out here from their descriptions: float64, one functional call after another, batch
norms as formulas, paddings counted window by window, -inf around maxima. LPIPS comes from the package ``lpips`` itself,
its trunks and heads filled with the same random weights. Only outputs are stored, and the weights' sum of squares, by
which a test can tell other weights from other arithmetic.

    pip install --target FOLDER --no-deps lpips==0.1.4 torchvision==0.28.0
    PYTHONPATH=FOLDER:. python tests/references/make_backbone_golden.py
"""

import json
import sys
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ipa_bench.nets.checkpoint import random_weights
from ipa_bench.nets.i3d import I3D
from ipa_bench.nets.lpips import Lpips
from ipa_bench.nets.resnet3d import ResNet3D

FOLDER = Path(__file__).parent
SEED = 20
I3D_FRAMES = (16, 9, 17)
NETS = ("alex", "vgg", "squeeze")
#: height, width: a square, and one that no stride divides
IMAGE_SIZES = ((64, 64), (61, 75))


def clip(frames, side, low, high):
    """float64 [1, 3, frames, side, side]; every value from ``low`` to ``high``, unlike from frame to frame."""
    source = np.random.RandomState(SEED + frames)
    pattern = source.uniform(0, 1, (1, 3, frames, side // 8, side // 8)).repeat(8, 3).repeat(8, 4)
    return torch.from_numpy(low + (high - low) * (0.7 * pattern + 0.3 * source.uniform(0, 1, pattern.shape)))


def image_pairs(height, width):
    """Two uint8 [3, height, width, 3]: noise and noise, noise and a slightly changed copy, black and white."""
    source = np.random.RandomState(SEED + width)
    one = source.randint(0, 256, (3, height, width, 3)).astype(np.uint8)
    other = source.randint(0, 256, (3, height, width, 3)).astype(np.uint8)
    other[1] = np.clip(one[1].astype(int) + source.randint(-9, 10, one[1].shape), 0, 255)
    one[2], other[2] = 0, 255
    return one, other


# ---------------------------------------------------------------------------------------------------------------------
# I3D, written out


def tf_same(x, kernel, stride, fill):
    """Pad every dimension so that windows at 0, s, 2s, ... of the padded tensor cover ceil(size / s) places."""
    for axis in range(3):
        size = x.shape[2 + axis]
        places = (size + stride[axis] - 1) // stride[axis]
        needed = (places - 1) * stride[axis] + kernel[axis]
        missing = max(needed - size, 0)
        front = missing // 2
        shape = list(x.shape)
        shape[2 + axis] = front
        before = torch.full(shape, fill, dtype=x.dtype)
        shape[2 + axis] = missing - front
        x = torch.cat([before, x, torch.full(shape, fill, dtype=x.dtype)], dim=2 + axis)
    return x


def unit(x, state, name, kernel, stride):
    x = F.conv3d(tf_same(x, [kernel] * 3, [stride] * 3, 0.0), state[f"{name}.conv3d.weight"], stride=stride)
    return torch.clamp(norm(x, state, f"{name}.bn", 1e-3), min=0)


def norm(x, state, name, epsilon):
    mean, variance, gamma, beta = (
        state[f"{name}.{part}"].reshape(1, -1, 1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + epsilon) * gamma + beta


def pool(x, kernel, stride):
    return F.max_pool3d(tf_same(x, kernel, stride, -float("inf")), kernel, stride)


def mixed(x, state, name):
    branches = [
        unit(x, state, f"{name}.b0", 1, 1),
        unit(unit(x, state, f"{name}.b1a", 1, 1), state, f"{name}.b1b", 3, 1),
        unit(unit(x, state, f"{name}.b2a", 1, 1), state, f"{name}.b2b", 3, 1),
        unit(pool(x, [3, 3, 3], [1, 1, 1]), state, f"{name}.b3b", 1, 1),
    ]
    return torch.cat(branches, dim=1)


def i3d_maps(x, state):
    x = unit(x, state, "Conv3d_1a_7x7", 7, 2)
    x = pool(x, [1, 3, 3], [1, 2, 2])
    x = unit(x, state, "Conv3d_2b_1x1", 1, 1)
    x = unit(x, state, "Conv3d_2c_3x3", 3, 1)
    x = pool(x, [1, 3, 3], [1, 2, 2])
    x = mixed(mixed(x, state, "Mixed_3b"), state, "Mixed_3c")
    x = pool(x, [3, 3, 3], [2, 2, 2])
    for letter in "bcdef":
        x = mixed(x, state, f"Mixed_4{letter}")
    x = pool(x, [2, 2, 2], [2, 2, 2])
    return mixed(mixed(x, state, "Mixed_5b"), state, "Mixed_5c")


def i3d_logits(maps, state, pool_frames):
    pooled = F.avg_pool3d(maps, [pool_frames, 7, 7], stride=1)
    logits = F.conv3d(pooled, state["logits.conv3d.weight"], state["logits.conv3d.bias"])
    return logits.squeeze(4).squeeze(3).mean(2)[0]


# ---------------------------------------------------------------------------------------------------------------------
# 3D-ResNet-50, written out


def bottleneck(x, state, name, stride):
    y = F.conv3d(x, state[f"{name}.conv1.weight"])
    y = torch.clamp(norm(y, state, f"{name}.bn1", 1e-5), min=0)
    y = F.conv3d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1)
    y = torch.clamp(norm(y, state, f"{name}.bn2", 1e-5), min=0)
    y = norm(F.conv3d(y, state[f"{name}.conv3.weight"]), state, f"{name}.bn3", 1e-5)
    if f"{name}.downsample.0.weight" in state:
        x = F.conv3d(x, state[f"{name}.downsample.0.weight"], stride=stride)
        x = norm(x, state, f"{name}.downsample.1", 1e-5)
    return torch.clamp(x + y, min=0)


def resnet_features(x, state):
    x = x - torch.tensor([114.7748, 107.7354, 99.4750], dtype=x.dtype).reshape(1, 3, 1, 1, 1)
    x = F.conv3d(x, state["conv1.weight"], stride=(1, 2, 2), padding=3)
    x = torch.clamp(norm(x, state, "bn1", 1e-5), min=0)
    x = F.max_pool3d(x, kernel_size=3, stride=2, padding=1)
    for layer, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for block in range(blocks):
            x = bottleneck(x, state, f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1)
    return F.avg_pool3d(x, (1, 4, 4), stride=1).reshape(-1)


# ---------------------------------------------------------------------------------------------------------------------
# LPIPS, the package


def import_lpips():
    """The package. Where torchvision is built for CUDA and torch is not, the two operators it lacks are declared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import lpips
        except RuntimeError:
            for name in [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "lpips")]:
                del sys.modules[name]
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            import lpips

            lpips.kept_alive = library
    return lpips


def lpips_of_package(ours, spatial):
    """The package's network with the weights of ``ours``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = import_lpips().LPIPS(net=ours.net, pretrained=False, pnet_rand=True, spatial=spatial, verbose=False)
    state = theirs.state_dict()
    trunk, heads = ours.trunk.state_dict(), ours.heads.state_dict()
    for name in state:
        if name.startswith("net."):
            _, _, rest = name.split(".", 2)
            state[name] = trunk[f"features.{rest}"]
        elif name.startswith("lins."):
            _, index, rest = name.split(".", 2)
            state[name] = heads[f"lin{index}.{rest}"]
        elif name.startswith("lin"):
            state[name] = heads[name]
    theirs.load_state_dict(state)
    return theirs.eval()


def as_package_wants(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / (255.0 / 2.0) - 1.0


# ---------------------------------------------------------------------------------------------------------------------


def weights(module):
    """float64 tensors, and their sum of squares."""
    random_weights(module, SEED)
    state = {name: tensor.double() for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    return state, float(sum(tensor.square().sum() for tensor in state.values()))


@torch.no_grad()
def main():
    arrays, about = {}, {"seed": SEED, "sum_of_squares": {}}
    state, about["sum_of_squares"]["i3d"] = weights(I3D())
    for frames in I3D_FRAMES:
        maps = i3d_maps(clip(frames, 224, -1, 1), state)
        arrays[f"i3d_{frames}"] = i3d_logits(maps, state, 2).numpy()
        arrays[f"i3d_disco_{frames}"] = i3d_logits(maps, state, 1).numpy()
    state, about["sum_of_squares"]["resnet"] = weights(ResNet3D())
    arrays["resnet"] = resnet_features(clip(16, 112, 0, 255), state).numpy()
    for net in NETS:
        ours = Lpips(net)
        _, about["sum_of_squares"][f"lpips_{net}"] = weights(ours)
        for size in IMAGE_SIZES:
            one, other = (as_package_wants(images) for images in image_pairs(*size))
            arrays[f"lpips_{net}_{size[1]}"] = lpips_of_package(ours, False)(one, other).flatten().numpy()
            spatial = lpips_of_package(ours, True)(one[:1], other[:1])
            arrays[f"lpips_{net}_{size[1]}_map"] = spatial[0, 0, ::3, ::3].numpy()
    about["versions"] = {name: metadata.version(name) for name in ("torch", "numpy", "lpips", "torchvision")}
    np.savez_compressed(FOLDER / "backbone_golden.npz", **arrays)
    (FOLDER / "backbone_golden.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
