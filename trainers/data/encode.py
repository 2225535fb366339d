"""Clips as tensors: latents, what the base is given beside them, and hand mask, each encoded once, kept by content."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped, unused-ignore]
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ipa_bench import video
from ipa_bench.cache import Cache, digest
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.files import file_sha256
from ipa_bench.models.base import FRONT, Base, References
from ipa_bench.models.frames import frames_for
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.pose import OBSERVER_ID as DRAWN_BY
from ipa_bench.types import Case, Float32
from ipa_bench.video.timing import rate_of, shown_at
from trainers import halo
from trainers.config import DataConfig
from trainers.data.clips import Clip

#: changes whenever an encoded tensor may change
VERSION = 1
#: clips are held in host memory up to this many bytes at least (all processes of a machine), the others read again
HELD_BYTES = 2 * 10**9


@dataclass(frozen=True, eq=False)
class Encoded:
    """A clip as the model is trained on it; tensors without a batch dimension, float32 unless said otherwise."""

    #: ``[C, n_ref + T', h, w]``: what the flow is over, the clip's latents and those of references that are noised
    latents: Tensor
    #: what the base is given beside them, by name, in its dtype (pictures uint8)
    condition: Mapping[str, Tensor]
    #: ``[T', h, w]`` in [0, 1]: how much of a latent's area a hand covers
    mask: Tensor
    #: sha256 of everything above depends on
    key: str
    #: where the flow has its reference frames
    references: References = FRONT

    @property
    def size(self) -> int:
        """Bytes of the tensors."""
        return sum(t.numel() * t.element_size() for t in (self.latents, *self.condition.values(), self.mask))


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips of one shape, stacked."""

    latents: Tensor
    condition: Mapping[str, Tensor]
    #: ``[B, T', h, w]``
    mask: Tensor
    keys: tuple[str, ...]
    references: References = FRONT

    @classmethod
    def of(cls, clips: Sequence[Encoded]) -> Batch:
        """Stack clips. Raises ``ValueError`` where their shapes differ."""
        shapes = {tuple(clip.latents.shape) for clip in clips}
        if len(shapes) > 1:
            raise ValueError(f"clips of different shapes cannot be stacked: {sorted(shapes)}")
        condition = {name: torch.stack([clip.condition[name] for clip in clips]) for name in clips[0].condition}
        latents, mask = (torch.stack([getattr(clip, name) for clip in clips]) for name in ("latents", "mask"))
        return cls(latents, condition, mask, tuple(clip.key for clip in clips), clips[0].references)

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        condition = {name: tensor.to(device) for name, tensor in self.condition.items()}
        return Batch(self.latents.to(device), condition, self.mask.to(device), self.keys, self.references)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.keys)


def room() -> int:
    """Bytes of clips that this process may hold: a quarter of the memory that is free, shared with those beside it."""
    beside = max(1, int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1))
    return max(HELD_BYTES // beside, int(psutil.virtual_memory().available) // 4 // beside)


def _read(cache: Cache, kind: str, key: str) -> Tensor | None:
    found = cache.get(kind, key) or {}
    if "bf16" in found:  # numpy has no such numbers
        return torch.from_numpy(found["bf16"]).view(torch.bfloat16)
    return torch.from_numpy(found["value"]) if "value" in found else None


def _write(cache: Cache, kind: str, key: str, value: Tensor) -> None:
    half = value.dtype == torch.bfloat16
    cache.put(kind, key, {"bf16": value.view(torch.uint16).numpy()} if half else {"value": value.numpy()})


class _Texts(MutableMapping[str, Tensor]):
    """Embeddings of prompts in the cache, which all processes find."""

    def __init__(self, cache: Cache, key: Callable[[str], str]) -> None:
        self._cache, self._key = cache, key
        #: where it cannot be written
        self._held: dict[str, Tensor] = {}

    def __getitem__(self, text: str) -> Tensor:
        if text in self._held:
            return self._held[text]
        found = _read(self._cache, "prompt", self._key(text))
        if found is None:
            raise KeyError(text)
        return found

    def __setitem__(self, text: str, value: Tensor) -> None:
        kept = _checked("prompt", value, value.dtype)
        _write(self._cache, "prompt", self._key(text), kept)
        if not self._cache.writable:
            self._held[text] = kept

    def __delitem__(self, text: str) -> None:
        raise NotImplementedError("what is kept stays")

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Encoder:
    """Encodes clips with a base model's own encoders; what was encoded before comes out of ``folder``."""

    def __init__(
        self,
        base: Base,
        model: str,
        config: DataConfig,
        folder: Path,
        pose_of: Callable[[Case], Path] | None = None,
        *,
        passing: bool = False,
    ) -> None:
        """``model``: the checkpoint's identity; ``config`` says where the hands are taken from; ``pose_of`` draws the
        pose video of a case that has none; ``passing``: clips come and go: what is theirs alone is not kept on disk.
        """
        self._passing = passing
        self._base, self._model, self._config = base, model, config
        self.pose_of = pose_of
        self._cache = Cache(folder)
        self._held: dict[Clip, Encoded] = {}
        self._room = room()
        base.keep_texts(_Texts(self._cache, self._prompt_key))
        self._looker: Looker | None = None

    def encode(self, clip: Clip) -> Encoded:
        """A clip as tensors.

        Raises :class:`UserError` naming the clip where it does not decode, does not fit its case, or is not finite.
        """
        if clip in self._held:
            return self._whole(clip, self._held[clip])
        try:
            encoded = self._encoded(clip)
        except (Unscorable, ValueError) as error:
            reason = error.reason if isinstance(error, Unscorable) else str(error)
            raise UserError(f"{clip.video}: {reason}", "take the clip out of the selection, or make it again") from None
        # What cannot be written is held: networks that encode are on another device, or slow, once training goes on.
        if self._room >= encoded.size or not self._cache.writable:
            self._room -= encoded.size
            self._held[clip] = encoded
        return self._whole(clip, encoded)

    def _whole(self, clip: Clip, encoded: Encoded) -> Encoded:
        """With what is the same for all clips of a shape and therefore not kept."""
        given = {name: encoded.condition[name][None] for name in self._base.shown}
        whole = {name: tensor[0] for name, tensor in self._base.unpacked(given, clip.case).items()}
        return replace(encoded, condition={**encoded.condition, **whole})

    @property
    def keeps(self) -> bool:
        """Whether what it encodes can be written, so that other processes find it."""
        return self._cache.writable

    def texts(self, texts: Sequence[str]) -> None:
        """Encode prompts, so that they are kept. Raises :class:`UserError` for one that is not finite."""
        for text in texts:
            try:
                self._base.texts([text])
            except ValueError as error:
                raise UserError(f"prompt {text[:40]!r}: {error}", "check the text encoder") from None

    def _prompt_key(self, text: str) -> str:
        return digest(VERSION, "prompt", self._model, str(self._base.dtype), text)

    def forget(self) -> None:
        """Let go of the clips in memory: others come."""
        self._held.clear()
        self._room = room()

    def _encoded(self, clip: Clip) -> Encoded:
        case, base = clip.case, self._base
        # What the base is given comes rounded to its dtype.
        dtype = str(base.dtype)
        pictures = [path for _, path in case.references] or [case.reference or case.driving]
        of_case = (*self._asked(case), *map(self._hash, [*pictures, *base.reads(case)]))
        given_keys = {name: digest(VERSION, name, self._model, dtype, *of_case) for name in base.shown}
        given = self._given(case, given_keys)
        prompt_key = self._prompt_key(case.prompt)
        prompt = self._kept("prompt", prompt_key, lambda: base.texts([case.prompt])[0], base.dtype)
        source = self._hash(clip.latents) if clip.latents else clip.sha256
        latents_key = digest(VERSION, "latents", self._model, source, *self._asked(case))
        latents = self._of_clip("latents", latents_key, lambda: self._latents(clip))
        shown = {name: tensor[None] for name, tensor in given.items()}
        channels, frames, *size = base.flow_shape(shown)
        fitting = (channels, frames - base.reference_frames(case), *size)
        if latents.shape != fitting:
            raise ValueError(f"its latents {list(latents.shape)} do not fit those of its pose video {list(fitting)}")
        mask_key = digest(
            VERSION, "mask", self._mask_source(clip), self._config.shape, self._config.margin, latents_key
        )
        mask = self._of_clip("mask", mask_key, lambda: torch.from_numpy(self._mask(clip, tuple(latents.shape[1:]))))
        whole = base.flow_input(latents[None], shown)[0]
        condition = {name: tensor[0] for name, tensor in base.condition(shown, prompt[None]).items()}
        key = digest(*given_keys.values(), prompt_key, latents_key, mask_key)
        return Encoded(whole, condition, mask, key, base.references)

    def _given(self, case: Case, keys: Mapping[str, str]) -> dict[str, Tensor]:
        """What a case gives the base, by name; all of it is made at once where some of it is not in the cache."""
        made: dict[str, Tensor] = {}

        def one(name: str) -> Tensor:
            if not made:
                pose = self._base.pose_of(case, self.pose_of)
                made.update(self._base.packed(self._base.given(case, pose).condition, case))
            return made[name][0]

        dtype = self._base.dtype
        return {name: self._kept(name, key, partial(one, name), dtype) for name, key in keys.items()}

    def _asked(self, case: Case) -> tuple[Any, ...]:
        drawn_by = None if case.pose else DRAWN_BY
        tracks = [] if case.pose else [self._hash(path) for _, path in case.poses]
        driven = [self._hash(case.driving)] if self._base.driven else []
        return (self._hash(case.pose or case.driving), drawn_by, case.frames, case.fps, case.size, *tracks, *driven)

    def _kept(self, kind: str, key: str, make: Callable[[], Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor out of the cache, or made, checked and put there; in ``dtype``, that of what it comes from.

        Pictures stay uint8.
        """
        known = _read(self._cache, kind, key)
        if known is None:
            known = _checked(kind, make(), dtype)
            _write(self._cache, kind, key, known)
        return known if known.dtype == torch.uint8 else known.to(dtype)

    def _of_clip(self, kind: str, key: str, make: Callable[[], Tensor]) -> Tensor:
        """A tensor that no other clip has."""
        return _checked(kind, make()) if self._passing else self._kept(kind, key, make)

    def _latents(self, clip: Clip) -> Tensor:
        if clip.latents is not None:
            try:
                return load_file(clip.latents)["latents"].float()
            except (OSError, KeyError, SafetensorError) as error:
                raise ValueError(f"{clip.latents.name} cannot be read: {error}") from error
        frames, _ = frames_for(clip.case, clip.video)
        return self._base.encode(frames)[0]

    def _mask_source(self, clip: Clip) -> list[str | None]:
        kind = self._config.mask
        file = {"exact": clip.case.mask, "driving": clip.case.driving, "generated": clip.video}.get(kind)
        return [kind, self._hash(file)]

    def _mask(self, clip: Clip, shape: tuple[int, ...]) -> Float32:
        """The hand mask in latent space; ``shape`` (T', h, w)."""
        if self._config.mask == "none":
            return np.zeros(shape, np.float32)
        factor = self._base.space
        height, width = shape[1] * factor, shape[2] * factor
        pixels = self._exact(clip.case) if self._config.mask == "exact" else self._seen(clip)
        count = (shape[0] - 1) * self._base.time + 1
        grown = ((0, count - len(pixels)), (0, height - pixels.shape[1]), (0, width - pixels.shape[2]))
        if min(low for _, low in grown) < 0:
            raise ValueError(f"its mask of {len(pixels)} frames is larger than its latents")
        return halo.to_latent(np.pad(pixels, grown, mode="edge"), *shape)

    def _exact(self, case: Case) -> Float32:
        if case.mask is None:
            raise Unscorable(f'case {case.id} has no mask video: give the case one, or say mask = "driving"')
        frames, _ = frames_for(case, case.mask)
        return np.asarray(frames[..., 0] / 255, np.float32)

    def _seen(self, clip: Clip) -> Float32:
        """Masks around the hands that the observer sees, at the frames of the clip and in its size."""
        case, about = clip.case, video.probe(clip.video)
        size = case.size or (about.width, about.height)
        fps = case.fps or about.fps
        self._looker = self._looker or Looker(threads=max(1, torch.get_num_threads()))
        tracks = self._looker.hands(case.driving if self._config.mask == "driving" else clip.video)
        count = case.frames or about.declared_frames or len(tracks.times)
        moments = np.arange(count) / fps
        nearest = shown_at(tracks.times, rate_of(tracks.times) or fps, moments)
        # As frames are cropped to the case's size: scaled to cover it, the middle kept.
        scale = max(size[0] / tracks.size[0], size[1] / tracks.size[1])
        offset = (np.array(size) - scale * np.array(tracks.size)) / 2
        landmarks = np.asarray(tracks.landmarks[nearest] * scale + offset, np.float32)
        return halo.hand_mask(
            landmarks, tracks.found[nearest], size, size, shape=self._config.shape, margin=self._config.margin
        )

    def _hash(self, path: Path | None) -> str | None:
        """sha256 of a file; the clips of a case share its files."""
        return None if path is None else file_sha256(path)


def _checked(kind: str, made: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """On the CPU in ``dtype``, pictures in uint8. Raises ``ValueError`` where it is not finite."""
    made = made.detach().cpu()
    made = made.to(made.dtype if made.dtype == torch.uint8 else dtype).contiguous()
    if not bool(torch.isfinite(made).all()):
        raise ValueError(f"its {kind} is not finite")
    return made
