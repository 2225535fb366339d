"""A small real network with seeded weights, clips to extract features of, and a child process that does."""

from __future__ import annotations

import hashlib
import resource
import signal
import sys
from pathlib import Path

import torch

from ipa_bench.cache import Cache
from ipa_bench.observers.features import FeatureDefinition, TorchBackbone, extract
from ipa_bench.types import UInt8
from tests.clips import noise, write

DIMENSION = 6


class Small(torch.nn.Module):
    """Two 3-D convolutions, a mean over space and time, a linear layer."""

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.first = torch.nn.Conv3d(3, 8, (3, 5, 5), (1, stride, stride))
        self.second = torch.nn.Conv3d(8, 16, (1, 3, 3), (1, 2, 2))
        self.last = torch.nn.Linear(16, DIMENSION)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 3, T, H, W] -> [N, 6]."""
        y: torch.Tensor = self.last(self.second(self.first(x).relu()).relu().mean((2, 3, 4)))
        return y


def small(seed: int = 0, size: int = 32, **fields: object) -> TorchBackbone:
    """The network as a backbone; its hash is that of its weights."""
    torch.manual_seed(seed)
    net = Small(2 if size < 100 else 8).eval()
    hashed = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values()))
    known = {"name": f"small-{size}", "sha256": hashed.hexdigest(), "size": size, "min_frames": 3}
    return TorchBackbone(net, **(known | {"dimension": DIMENSION} | fields))  # type: ignore[arg-type]


def clip(path: Path, frames: int, seed: int = 0, height: int = 48, width: int = 64, **options: object) -> Path:
    """A file of moving noise. No two seeds give the same bytes."""
    images: UInt8 = noise(frames, height, width, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, images, options={"preset": "ultrafast"}, **options)  # type: ignore[arg-type]


def main(folder: str, cache: str, size: str, pause: str) -> None:
    """Extract the clips of a folder and tell after each video how many are done and the peak memory in MiB.

    After ``pause`` videos wait for a signal: -1 for never.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background starts programs that ignore it
    torch.set_num_threads(1)
    backbone = small(size=int(size))
    definition = FeatureDefinition.of(backbone, policy="styleganv", length=16)

    def tell(stage: str, done: int, total: int) -> None:
        print(done, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10, flush=True)
        if done == int(pause):
            signal.pause()

    found = extract(
        sorted(Path(folder).iterdir()), definition, backbone, Cache(Path(cache)) if cache else None, progress=tell
    )
    print("rows", len(found.values), "decoded", found.decoded, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
