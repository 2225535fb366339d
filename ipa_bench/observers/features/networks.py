"""Networks of the distances between sets: which weights, which preprocessing, which windows. Loaded when first used."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ipa_bench import video, weights
from ipa_bench.errors import UserError
from ipa_bench.metrics.set_table import FID_VID, FVD, FVD_DISCO, FVD_EMBEDDED
from ipa_bench.observers.features.backbone import TorchBackbone
from ipa_bench.observers.features.definition import DISCO_POOL, FeatureDefinition
from ipa_bench.observers.features.policies import Scale
from ipa_bench.weights import shipped

if TYPE_CHECKING:
    import torch

    from ipa_bench.nets.fold import Backbone

#: frames in a window
LENGTH = 16
#: files with I3D's weights, the preferred first
I3D_FILES = ("i3d_pretrained_400", "i3d_torchscript")

#: what features are, and the network that makes them
Network = tuple[FeatureDefinition, Callable[[], TorchBackbone]]


def network(metric: str) -> Network:
    """What the metric's features are made with. Raises UserError where its weights are missing or not as published."""
    return _NETWORKS[metric]()


def _embedded() -> Network:
    definition = FeatureDefinition("clean", LENGTH, LENGTH, shipped.VIDEO_NAME, shipped.VIDEO_SHA256)

    @cache
    def load() -> TorchBackbone:
        from ipa_bench.nets import embedded

        net = embedded.load_video(device=_device())
        return _backbone(net, definition, embedded.VIDEO_SIZE, embedded.VIDEO_MIN_FRAMES, embedded.VIDEO_FEATURES)

    return definition, load


def _fvd() -> Network:
    file = _first(I3D_FILES)
    definition = FeatureDefinition("styleganv", LENGTH, LENGTH, "i3d-k400", video.file_sha256(file))
    return definition, _i3d(file, definition)


def _fvd_disco() -> Network:
    file = _first(I3D_FILES)
    definition = FeatureDefinition("disco-legacy", LENGTH, 1, "i3d-k400", video.file_sha256(file), DISCO_POOL)
    return definition, _i3d(file, definition)


def _i3d(file: Path, definition: FeatureDefinition) -> Callable[[], TorchBackbone]:
    @cache
    def load() -> TorchBackbone:
        from ipa_bench.nets import checkpoint, i3d

        disco = definition.variant == DISCO_POOL
        net = i3d.I3D(1, i3d.BICUBIC_LIMIT) if disco else i3d.I3D()
        checkpoint.load(net, file)
        return _backbone(_on_device(net), definition, i3d.SIZE, 1 if disco else 9, 400)

    return load


def _fid_vid() -> Network:
    file = weights.path("resnet50_kinetics")
    definition = FeatureDefinition(
        "disco-legacy", LENGTH, LENGTH, "resnet50-kinetics", video.file_sha256(file), aggregation="segments"
    )

    @cache
    def load() -> TorchBackbone:
        from ipa_bench.nets import checkpoint, resnet3d

        net = resnet3d.ResNet3D()
        checkpoint.load(net, file)
        ready = _on_device(net)
        return _backbone(ready, definition, resnet3d.SIZE, resnet3d.FRAMES, resnet3d.FEATURES, "bytes")

    return definition, load


def _first(names: tuple[str, ...]) -> Path:
    """The first of several files that is here. Raises the first's UserError where none is."""
    failed: UserError | None = None
    for name in names:
        try:
            return weights.path(name)
        except UserError as error:
            failed = failed or error
    assert failed is not None
    raise failed


def _backbone(
    net: torch.nn.Module, definition: FeatureDefinition, size: int, least: int, width: int, scale: Scale = "symmetric"
) -> TorchBackbone:
    name, sha256, variant, dtype = definition.backbone, definition.weights, definition.variant, definition.dtype
    device = str(next(net.parameters()).device)
    return TorchBackbone(net, name, sha256, size, least, width, scale, variant, dtype, device)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _on_device(net: Backbone) -> Backbone:
    from ipa_bench.nets.fold import prepare

    return prepare(net, device=_device())


_NETWORKS: dict[str, Callable[[], Network]] = {
    FVD_EMBEDDED.id: _embedded,
    FVD.id: _fvd,
    FVD_DISCO.id: _fvd_disco,
    FID_VID.id: _fid_vid,
}
