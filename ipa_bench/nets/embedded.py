"""The two small networks that ship with the project: video features and a picture distance for the built-in world.

``ipa-bench embedded nets`` trains both on rendered people of the train split. They stand in for I3D and
LPIPS where published weights are missing. Their numbers compare with each other and with no published number.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipa_bench.errors import Unscorable, UserError
from ipa_bench.nets import checkpoint
from ipa_bench.nets.fold import Backbone, number_format, prepare, require_range
from ipa_bench.nets.i3d import FoldedUnit, Unit
from ipa_bench.nets.lpips import _CHANNELS, Lpips
from ipa_bench.weights.shipped import IMAGE_SHA256 as IMAGE_SHA256
from ipa_bench.weights.shipped import VIDEO_NAME as VIDEO_NAME
from ipa_bench.weights.shipped import VIDEO_SHA256 as VIDEO_SHA256

#: side of its input: that of the world's frames
VIDEO_SIZE = 128
#: fewest frames: as I3D
VIDEO_MIN_FRAMES = 9
#: length of a feature
VIDEO_FEATURES = 64
#: the largest absolute value that is let through, as in I3D
LIMIT = 1.001
#: where the weights are, and what they are
FOLDER = Path(__file__).parents[1] / "embedded" / "nets"
VIDEO, IMAGE = "video.safetensors", "image.safetensors"
#: said of both in a report; what is "not comparable" says so of itself (:attr:`Backbone.comparable`)
ORIGIN = "trained on the built-in world, not comparable with published numbers"

#: block -> outputs of its branches: 1x1x1 | 1x1x1, 3x3x3 | 1x1x1, 5x1x1
_BLOCKS: dict[str, tuple[int, int, int, int, int]] = {
    "Mixed_3b": (16, 16, 24, 8, 8),
    "Mixed_3c": (16, 24, 32, 16, 16),
    "Mixed_4b": (24, 24, 48, 16, 24),
    "Mixed_4c": (24, 32, 48, 16, 24),
}
#: block -> kernel and stride of the pooling before it
_POOLS = {"Conv3d_2c_3x3": (1, 2, 2), "Mixed_3b": (1, 2, 2), "Mixed_4b": (2, 2, 2), "Conv3d_5a_1x1": (1, 2, 2)}


def _unit(into: int, out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)) -> Unit:
    """A unit of I3D whose kernel and stride differ between time and space."""
    unit = Unit(into, out)
    unit.conv3d = nn.Conv3d(into, out, kernel, stride, bias=False)
    return unit


class Block(nn.Module):
    """Parallel branches, concatenated, as in I3D: a point, a box, and (where I3D pools) a stretch of time."""

    def __init__(self, into: int, outs: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        self.b0: nn.Module = Unit(into, outs[0])
        self.b1a: nn.Module = Unit(into, outs[1])
        self.b1b: nn.Module = Unit(outs[1], outs[2], 3)
        self.b2a: nn.Module = Unit(into, outs[3])
        self.b2b: nn.Module = _unit(outs[3], outs[4], (5, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, into, T, H, W] -> the same size with the branches' channels."""
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x))], 1)


class EmbeddedVideoNet(Backbone):
    """I3D in small: a stem, four inception blocks, 64 features; 0.19 M parameters, 0.51 GFLOP for 16 frames.

    Where I3D takes the mean over the last map, a convolution as large as the map keeps left and right apart. The
    shipped features have mean 0 and deviation 1 over the clips that the net was trained on.
    """

    exact: ClassVar[tuple[str, ...]] = ("features",)

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_5x5 = _unit(3, 16, (3, 5, 5), (2, 2, 2))
        self.Conv3d_2c_3x3 = _unit(16, 32, (1, 3, 3))
        into = 32
        for name, outs in _BLOCKS.items():
            self.add_module(name, Block(into, outs))
            into = outs[0] + outs[2] + outs[4]
        self.Conv3d_5a_1x1 = Unit(into, 48)
        self.features = nn.Conv3d(48, VIDEO_FEATURES, (1, 4, 4))
        self.eval()  # batch statistics would be silently wrong; training says so

    def forward(self, clips: Tensor) -> Tensor:
        """float [N, 3, T, 128, 128], RGB in [-1, 1] -> float32 features [N, 64]. Trained on T = 16 at 12 per second.

        Raises ValueError for another shape or type, UserError for values outside of [-1, 1] and Unscorable for fewer
        than 9 frames.
        """
        fits = (
            clips.ndim == 5 and len(clips) > 0 and clips.shape[1] == 3 and clips.shape[3:] == (VIDEO_SIZE, VIDEO_SIZE)
        )
        if not fits or not clips.is_floating_point():
            wanted = f"float [N, 3, T, {VIDEO_SIZE}, {VIDEO_SIZE}]"
            raise ValueError(f"the embedded video net takes {wanted}, got {clips.dtype} {list(clips.shape)}")
        if clips.shape[2] < VIDEO_MIN_FRAMES:
            told = f"the embedded video net needs {VIDEO_MIN_FRAMES} frames or more, the clip has {clips.shape[2]}"
            raise Unscorable(told)
        require_range(clips, -LIMIT, LIMIT, "the embedded video net", "RGB in [-1, 1]")
        return self.compute(clips)

    def compute(self, clips: Tensor) -> Tensor:
        """:meth:`forward` without its checks, which training does not need in every step."""
        device, dtype = number_format(self.Conv3d_1a_5x5)
        x = clips.to(device, dtype).contiguous(memory_format=self.layout)
        for name, block in self.named_children():
            if name in _POOLS:
                x = F.max_pool3d(x, _POOLS[name], ceil_mode=True)
            x = block(x.to(number_format(self.features)[1]) if name == "features" else x)
        return x.mean((2, 3, 4))

    def fold(self) -> None:
        """Fold every batch norm."""
        for owner in (self, *(block for block in self.children() if isinstance(block, Block))):
            for name, unit in list(owner.named_children()):
                if isinstance(unit, Unit):
                    owner.add_module(name, FoldedUnit(unit))


class EmbeddedLpips(Lpips):
    """LPIPS with a small trunk and heads of its own: 84 k and 224 weights. Used as :class:`ipa_bench.nets.lpips.Lpips`.

    Pictures are of 15 x 15 pixels or more; it was trained on 128 x 128.
    """

    def __init__(self) -> None:
        super().__init__("embedded")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map: how many weights the heads have."""
        return _CHANNELS["embedded"]


# ---------------------------------------------------------------------------------------------------------------------
# the shipped weights


def load_video(dtype: torch.dtype = torch.float32, device: str = "cpu", folder: Path = FOLDER) -> EmbeddedVideoNet:
    """The shipped video net, ready: folded, in evaluation, without gradients. ``dtype`` and errors as for ``prepare``.

    Raises UserError where the file in ``folder`` cannot be read or is not the one of :data:`VIDEO_SHA256`.
    """
    net = EmbeddedVideoNet()
    checkpoint.load(net, verified(folder / VIDEO, VIDEO_SHA256))
    net.origin = ORIGIN
    return prepare(net, dtype, device)


def load_image(dtype: torch.dtype = torch.float32, device: str = "cpu", folder: Path = FOLDER) -> EmbeddedLpips:
    """The shipped LPIPS, ready. Arguments and errors as :func:`load_video`."""
    net = EmbeddedLpips()
    checkpoint.load(net, verified(folder / IMAGE, IMAGE_SHA256))
    net.origin = net.trunk.origin = net.heads.origin = ORIGIN
    return prepare(net, dtype, device)


Shipped = TypeVar("Shipped", bound=nn.Module)


def shipped(net: Shipped, file: str, sha256: str, folder: Path | None = None) -> Shipped:
    """``net`` with the weights of a file that comes along, in float32, in evaluation, without gradients.

    Raises UserError where the file cannot be read or has another hash.
    """
    from safetensors.torch import load_file

    tensors = load_file(verified((folder or FOLDER) / file, sha256))
    net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return net.eval().requires_grad_(False)


def verified(path: Path, sha256: str) -> Path:
    """``path`` where its bytes have this hash. Raises UserError where they cannot be read or have another."""
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "install ipa-bench again") from error
    if found != sha256:
        told = f"{path} is not the file that this version ships: sha256 {found[:12]}..., not {sha256[:12]}..."
        raise UserError(told, "install ipa-bench again")
    return path
