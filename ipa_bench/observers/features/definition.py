"""What a feature is: everything that moves its values, in one id. Features of different ids are not compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from ipa_bench.errors import UserError
from ipa_bench.observers.features.backbone import Backbone, DType
from ipa_bench.observers.features.policies import policy

Aggregation = Literal["windows", "segments"]

#: what each part of an id says, in order
PARTS = ("network", "weights", "preprocessing", "windows", "sample", "precision", "covariance")
#: hexadecimal digits of the weights' sha256 in an id; cache keys have all 64
DIGITS = 8
#: the variant of I3D whose last pooling spans one time step, as DisCo's does; the original's spans two
DISCO_POOL = "avgpool177"


@dataclass(frozen=True)
class FeatureDefinition:
    """Everything that moves a feature's values, or the moments taken of them. Checked when it is made.

    Raises :class:`UserError` for an unknown policy, a length or stride below 1, another aggregation, precision or
    ``ddof``, segments that overlap or leave gaps, and a name, variant or hash that an id cannot hold.
    """

    #: of :data:`ipa_bench.observers.features.policies.POLICIES`; an alias is replaced by the policy's own name
    policy: str
    #: frames in a window
    length: int
    #: frames from one window to the next
    stride: int
    #: name of the network
    backbone: str
    #: sha256 of its weights
    weights: str
    #: of the network, which has the same weights in every variant; empty: as published
    variant: str = ""
    dtype: DType = "fp32"
    #: ``windows``: each window is a sample. ``segments``: a video is one sample, the mean over its windows, which lie
    #: end to end; the last is filled with the last frame (DisCo's FID-VID)
    aggregation: Aggregation = "windows"
    #: covariances are divided by n - ddof; no matter to the features themselves
    ddof: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy", policy(self.policy).name)
        if self.length < 1 or self.stride < 1:
            raise UserError(f"windows of {self.length} frames every {self.stride} cannot be taken", "use 1 or more")
        if self.aggregation not in get_args(Aggregation):
            raise UserError(f"there is no aggregation called {self.aggregation!r}", "use windows or segments")
        if self.aggregation == "segments" and self.stride != self.length:
            raise UserError(
                f"segments of {self.length} frames every {self.stride} do not lie end to end",
                f"set the stride to {self.length}",
            )
        if self.dtype not in get_args(DType):
            raise UserError(f"there is no precision called {self.dtype!r}", "use fp32 or bf16")
        if self.ddof not in (0, 1):
            raise UserError(f"ddof is 0 or 1, not {self.ddof}")
        if len(self.weights) != 64 or set(self.weights) - set("0123456789abcdef"):
            raise UserError(f"{self.weights!r} is not a sha256", "give 64 hexadecimal digits in lower case")
        if not self.backbone or set("|/+ ") & set(self.backbone + self.variant):
            raise UserError(
                f"a network cannot be called {self.backbone!r} {self.variant!r}", "leave out |, /, + and spaces"
            )

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        *,
        policy: str,
        length: int = 16,
        stride: int = 16,
        aggregation: Aggregation = "windows",
        ddof: int = 1,
    ) -> FeatureDefinition:
        """The definition of what ``backbone`` computes. Raises :class:`UserError` as the class does, and where it takes
        no windows of ``length`` frames."""
        if length < backbone.min_frames:
            raise UserError(
                f"{backbone.name} takes no windows of {length} frames",
                f"set the length to {backbone.min_frames} or more",
            )
        name, variant, sha256, dtype = backbone.name, backbone.variant, backbone.sha256, backbone.dtype
        return cls(policy, length, stride, name, sha256, variant, dtype, aggregation, ddof)

    @property
    def id(self) -> str:
        """One line, for example ``i3d-k400/sha:1a2b3c4d|styleganv@1|T16s16|windows|fp32|ddof1``; stable."""
        network = f"{self.backbone}+{self.variant}" if self.variant else self.backbone
        version = policy(self.policy).version
        return (
            f"{network}/sha:{self.weights[:DIGITS]}|{self.policy}@{version}|T{self.length}s{self.stride}"
            f"|{self.aggregation}|{self.dtype}|ddof{self.ddof}"
        )

    @property
    def key(self) -> tuple[str | int, ...]:
        """What names the features in a cache: all that moves their values, with the whole hash."""
        version = policy(self.policy).version
        windows = (self.length, self.stride, self.aggregation)
        return (self.backbone, self.variant, self.weights, self.policy, version, *windows, self.dtype)

    @property
    def corrected(self) -> FeatureDefinition | None:
        """The same without DisCo's known mistake, to be printed beside it; None where none is known.

        DisCo's I3D pools one time step at a time (``[1, 7, 7]``) where the original pools two (``[2, 7, 7]``); both
        then take the mean over time. What follows the pooling is linear, so for the two time steps that 9 to 16 frames
        leave, both are the same up to rounding; for longer windows they differ, and only DisCo's takes fewer than 9.
        Resizing is no mistake of this kind: another policy is another definition, not a correction.
        """
        return replace(self, variant="") if self.variant == DISCO_POOL else None


def differences(one: str, other: str) -> list[str]:
    """Parts in which two ids differ, in words: ``preprocessing: tf@1, styleganv@1``; empty for equal ids.

    Raises :class:`UserError` for a string that is not an id.
    """
    pairs = zip(PARTS, _parts(one), _parts(other), strict=True)
    return [f"{part}: {left}, {right}" for part, left, right in pairs if left != right]


def check_comparable(one: str, other: str) -> None:
    """Raise :class:`UserError` that lists the parts in which two ids differ; features of one id are comparable."""
    if found := differences(one, other):
        raise UserError(
            f"features with different ids are not compared: {'; '.join(found)}",
            "extract both with the same definition",
        )


def _parts(text: str) -> list[str]:
    network, slash, rest = text.partition("/")
    parts = [network, *rest.split("|")]
    if not slash or len(parts) != len(PARTS) or not all(parts):
        raise UserError(f"{text!r} is not the id of a feature definition")
    return parts
