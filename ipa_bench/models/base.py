"""The seam of base models: all that generators and trainers know of the model that they sample or train.

A :class:`Base` is loaded; what is known without loading it is its :class:`~ipa_bench.models.outline.Outline`. Both are
had through :mod:`ipa_bench.models.kinds`, and one more base is one more line there.

What differs between bases stays behind this seam: how a case becomes tensors, which networks a pass goes through (two
experts choose by t), how guidance combines passes, and where the latents of reference images stand. References that
are noised as the clip is are a part of the flow, and :class:`References` says where. Clean ones are not: ``velocity``
shows them to the network and cuts them off again, so that neither a sampler nor a loss ever sees them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from ipa_bench.types import Case, UInt8, Video

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ipa_bench.models.outline import Outline, Shape

#: named tensors, batch first: what the model is given beside noised latents and time
Condition: TypeAlias = "Mapping[str, Tensor]"


class Model(Protocol):
    """Anything that can be asked for a video of a case."""

    @property
    def name(self) -> str:
        """The name that the leaderboard shows; unique in a run."""
        ...

    def generate(self, case: Case, seed: int) -> Path | Video:
        """The video of ``case`` for ``seed``; the same for the same two arguments.

        A path to a video file on disk is preferred: it is streamed, not held in memory.
        Raises :class:`~ipa_bench.errors.Unscorable` with the reason when there is no such video.
        """
        ...


@dataclass(frozen=True)
class References:
    """Where the latent frames of reference images stand in the model's time, and whether they are noised.

    Wan-VACE has them in front, noised; a base that writes clean latents over the end has ``("back", noised=False)``.
    """

    place: Literal["front", "back"]
    noised: bool

    def clip(self, values: Tensor, frames: int, axis: int = 2) -> Tensor:
        """The part of the flow that is the clip's: ``frames`` latent frames of ``values`` along ``axis``.

        Raises ``ValueError`` where the flow is shorter, or has more frames though references are no part of it.
        """
        more = values.shape[axis] - frames
        if more < 0 or (more and not self.noised):
            raise ValueError(f"a flow of {values.shape[axis]} latent frames does not hold a clip of {frames}")
        return values.narrow(axis, more if self.place == "front" else 0, frames)

    def beside(self, values: Tensor, count: int, fill: float, axis: int) -> Tensor:
        """Values of a clip's latent frames along ``axis``, grown to those of the flow by ``fill`` for references."""
        import torch

        if not count:
            return values
        sides = list(values.shape)
        sides[axis] = count
        rest = values.new_full(sides, fill)
        return torch.cat([rest, values] if self.place == "front" else [values, rest], axis)


#: as Wan-VACE has them
FRONT = References("front", noised=True)


@dataclass(frozen=True, eq=False)
class Given:
    """What a base is given for a case, whatever the seed and the words."""

    #: on the CPU, a batch of one
    condition: Condition
    frames: int
    fps: float
    #: (width, height) of the clip, from the top left of what the model makes
    size: tuple[int, int]
    #: frames that are made at once, where the clip is longer
    segment: int | None = None
    #: frames of before, with which this segment begins
    repeated: int = 0
    #: the frames made so far -> what the next segment is given; None: this is the last
    later: Callable[[UInt8], Given] | None = None

    @property
    def at_once(self) -> int:
        """Frames that one go makes."""
        return self.segment or self.frames


@dataclass(frozen=True, eq=False)
class Rung:
    """One pass of a guided step: its condition, and how far the velocity goes from the rung below toward its own."""

    condition: Condition
    scale: float = 1.0
    #: the same where a base with two experts goes through the second one; None: no other
    late: float | None = None


class Base(ABC):
    """A loaded base model. Tensors are batch first; latents are normalised; t is in [0, 1], 1 is noise."""

    references: References
    #: names of the tensors that :meth:`given` makes
    shown: tuple[str, ...]
    #: whether it is driven by a pose video: one is drawn for a case that has none
    posed: bool = True
    #: Which networks have a pass, given those that this process needs one of: where weights are divided over processes,
    #: all that any of them needs. None: nobody else is asked.
    agree: Callable[[Sequence[bool]], Sequence[bool]] | None = None
    #: whether :meth:`given` reads the driving clip also where there is a pose video
    driven: bool = False

    @property
    @abstractmethod
    def outline(self) -> Outline:
        """What its configuration says."""

    @property
    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks that predict velocities, by name: what is trained. Most bases have one."""

    @property
    @abstractmethod
    def transformer(self) -> Any:
        """The first of them, which can be replaced by another of its kind."""

    @transformer.setter
    @abstractmethod
    def transformer(self, module: Any) -> None: ...

    @property
    def aside(self) -> Sequence[nn.Module]:
        """Networks that are not needed while the others train."""
        return ()

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights, and of what it is given."""
        return self.transformer.dtype  # type: ignore[no-any-return]

    # what it is given

    def pose_of(self, case: Case, draw: Callable[[Case], Path] | None) -> Path | None:
        """The pose video that :meth:`given` takes: the case's own, or one that is drawn where the base wants one.

        Raises :class:`~ipa_bench.errors.Unscorable` where it cannot be drawn.
        """
        if case.pose is not None or draw is None or not self.posed:
            return case.pose
        return draw(case)

    @abstractmethod
    def given(self, case: Case, pose: Path | None) -> Given:
        """What a case gives the model: tensors named :attr:`shown`; ``pose`` is its pose video, where there is one.

        A case without a reference image shows the first frame of its driving clip as the person to animate.
        Raises :class:`~ipa_bench.errors.Unscorable` where its clips do not decode, are too short, or one is missing.
        """

    def reads(self, case: Case) -> Sequence[Path | None]:
        """What else of a case's files :meth:`given` reads, beside pictures, pose and driving clip."""
        return ()

    def packed(self, given: Condition, case: Case) -> Condition:
        """What of :meth:`given` has to be kept so that :meth:`unpacked` gives it back to the bit; all of it, or less.

        :meth:`flow_shape`, :meth:`flow_input` and :meth:`condition` take either.
        """
        return given

    def unpacked(self, kept: Condition, case: Case) -> Condition:
        """What :meth:`packed` was made of. What was kept whole stays as it is, and so does what is not of a case."""
        return kept

    @abstractmethod
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings ``[B, tokens, width]`` of prompts, each text encoded once."""

    def keep_texts(self, kept: MutableMapping[str, Tensor]) -> None:  # noqa: B027 - a base may keep none
        """Look for embeddings ``[tokens, width]`` in ``kept`` before encoding, and put there what was encoded."""

    def leave_texts(self) -> None:  # noqa: B027
        """Let go of what encodes prompts; it is loaded again for a prompt that is not kept, where that is possible."""

    def condition(self, given: Condition, words: Tensor) -> Condition:
        """All that :meth:`velocity` needs beside latents and time."""
        return {**given, "prompt": words}

    # the flow

    @abstractmethod
    def flow_shape(self, given: Condition) -> tuple[int, int, int, int]:
        """Channels, frames, height and width of what the flow is over, for a case's tensors."""

    def reference_frames(self, case: Case) -> int:
        """How many latent frames of the flow are those of a case's reference images."""
        return (len(case.references) or 1) if self.references.noised else 0

    @abstractmethod
    def flow_input(self, latents: Tensor, given: Condition) -> Tensor:
        """What the flow is over: latents ``[B, C, T', h, w]`` of clips, with those of references that are noised."""

    @abstractmethod
    def velocity(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity at ``z`` ``[B, C, T, h, w]`` and ``t`` ``[B]``, in the model's dtype; gradients flow.

        A sampler that counts in steps of 1/1000 gives ``t`` in float64, so that its own number arrives unrounded.
        """

    def ladder(
        self, condition: Condition, negative: Tensor | None, guidance: float, guidance_2: float | None = None
    ) -> tuple[Rung, ...]:
        """The passes of a guided step, from the least conditioned one up.

        Classifier-free guidance (arXiv 2207.12598) unless the base has a rule of its own: with ``guidance`` above 1 the
        ``negative`` words, then the case's; ``guidance_2`` is the scale of a second expert, where it is another.
        """
        if guidance <= 1 or negative is None:
            return (Rung(condition),)
        return (Rung(self.condition(condition, negative)), Rung(condition, guidance, guidance_2))

    def late(self, t: Tensor) -> Tensor | None:
        """Which of the noise levels ``t`` ``[B]`` a second expert is for, ``[B]``; None for a base without one."""
        return None

    def guided(self, z: Tensor, t: Tensor, ladder: Sequence[Rung]) -> Tensor:
        """The velocity of a ladder: v₀ + Σ scale · (v − v of the rung below). One pass each: less memory than at once.

        Samplers and trainers guide by this rule alone. Raises ``ValueError`` for a ladder without rungs.
        """
        if not ladder:
            raise ValueError("a ladder has at least one rung")
        below = found = self.velocity(z, t, ladder[0].condition)
        for rung in ladder[1:]:
            own = self.velocity(z, t, rung.condition)
            found, below = found + self._scale(rung, t) * (own - below), own
        return found

    def _scale(self, rung: Rung, t: Tensor) -> float | Tensor:
        """How far a rung goes at ``t``: a number, unless the levels of a batch are of both experts."""
        late = None if rung.late is None else self.late(t)
        if late is None or rung.late is None or not bool(late.any()):
            return rung.scale
        if bool(late.all()):
            return rung.late
        import torch

        return torch.where(late, rung.late, rung.scale).float().reshape(-1, 1, 1, 1, 1)

    @abstractmethod
    def scheduler(self, shift: float | None = None) -> Any:
        """A fresh scheduler, with another flow shift where one is given. Raises UserError for one that cannot be."""

    # pixels

    @property
    def time(self) -> int:
        """Video frames to a latent frame; the first frame has one of its own."""
        return self.outline.time

    @property
    def space(self) -> int:
        """Pixels to a latent, each way."""
        return self.outline.space

    @abstractmethod
    def latent_frames(self, frames: int) -> int:
        """Latent frames of the smallest clip that the model makes and that holds ``frames``."""

    @abstractmethod
    def encode(self, frames: UInt8) -> Tensor:
        """Latents ``[1, C, T', h, w]`` of a clip uint8 ``[T, H, W, 3]``, grown to what the model can make."""

    @abstractmethod
    def decode(self, latents: Tensor) -> UInt8:
        """The clip uint8 ``[T, H, W, 3]`` of latents ``[1, C, T', h, w]`` without reference frames.

        Raises ``FloatingPointError`` where the latents or the pixels are not finite.
        """

    # adapters

    @abstractmethod
    def adapted(self, layers: str, blocks: str) -> str:
        """A pattern of the layers that have an adapter, in peft's sense: it matches a layer's whole name."""

    @abstractmethod
    def load_adapter(self, file: Path, name: str) -> None:
        """Add a LoRA as the adapter ``name``. Raises UserError where it does not fit, also in part."""

    @abstractmethod
    def save_adapter(
        self, folder: Path, adapters: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]]
    ) -> Path:
        """Write adapters of :attr:`networks`, each (layers, settings of peft), and give the file to load."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the whole model as a folder that loads."""

    def shape(self, z: Tensor, condition: Condition) -> Shape:
        """What a pass sees, for arithmetic."""
        from ipa_bench.models.outline import Shape

        batch, _, frames, height, width = z.shape
        return Shape(frames, height, width, condition["prompt"].shape[1], batch)
