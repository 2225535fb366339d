"""What is trained, and what it is compared with: the networks of a base model with a LoRA (or all their weights).

The reference is never a second copy in device memory: it is the same networks with the LoRA switched off, with a
frozen LoRA where training continues from one, or (for full fine-tuning) with the weights they began with, held in host
memory and swapped in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import torch
from torch import Tensor, nn

from ipa_bench.errors import UserError
from ipa_bench.models.base import Base
from ipa_bench.models.checkpoint import lora_parts
from ipa_bench.models.outline import Checkpointing
from trainers import lora, parts
from trainers.config import AdapterConfig
from trainers.data.encode import Batch
from trainers.schedule import follow

#: the adapter that is trained, and the frozen one that training continued from
ADAPTER, FROZEN = "policy", "reference"


class Policy(ABC):
    """A base model whose networks are trained, and its reference."""

    #: how the reference is had, in one line: what a checkpoint was anchored to
    reference_is: str
    #: what is trained where that is not what the configuration says: it continues from a LoRA, and is of its shape
    adapter: dict[str, Any] | None = None
    #: the weights of the old policy by name, where a method keeps one: a third set beside the trained and the reference
    old: Mapping[str, Tensor] = MappingProxyType({})

    def __init__(self, base: Base) -> None:
        self.base = base

    @property
    def transformer(self) -> Any:
        """The base's first network; most have no other."""
        return self.base.transformer

    @transformer.setter
    def transformer(self, module: Any) -> None:
        self.base.transformer = module

    @property
    def networks(self) -> list[Any]:
        """All networks that are trained."""
        return list(self.base.networks.values())

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter with its name; those of a second network and of later ones begin with the network's."""
        for place, (network, module) in enumerate(self.base.networks.items()):
            for name, parameter in module.named_parameters():
                yield (f"{network}.{name}" if place else name), parameter

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, in a fixed order."""
        return {name: p for name, p in self.named() if p.requires_grad}

    @property
    def training(self) -> bool:
        """Whether the networks are in training mode (dropout, checkpointing)."""
        return bool(self.transformer.training)

    def train(self, on: bool = True) -> None:
        """Put the networks in training mode, or out of it."""
        for network in self.networks:
            network.train(on)

    def checkpoint_gradients(self, how: Checkpointing = True) -> None:
        """Compute activations again in the backward pass instead of keeping them; what attention gave is kept or not.

        Nothing is kept of what a compiled block computes inside.
        """
        for network in self.networks:
            network.enable_gradient_checkpointing(*([checkpoint_but_attention] if how == "attention" else []))

    @abstractmethod
    def reference(self) -> Any:
        """A context in which the networks are the reference, without gradients."""

    def keep_old(self) -> None:
        """Keep an old policy from here on, which begins as the trained one is now."""
        self.old = {name: parts.mine(p).detach().clone() for name, p in self.parameters.items()}

    @contextmanager
    def as_old(self) -> Iterator[None]:
        """The old policy in the place of the trained one, without dropout and gradients."""
        training = self.training
        self.train(False)
        try:
            with exchanged(self.parameters, self.old), torch.no_grad():
                yield
        finally:
            self.train(training)

    def follow(self, keep: float) -> None:
        """The old policy keeps this share of itself and takes the rest from the trained one."""
        follow(self.old, {name: parts.mine(p) for name, p in self.parameters.items()}, keep)

    def begin(self) -> None:  # noqa: B027 - most need nothing
        """Keep what the reference needs of the weights, which lie now where they are trained."""

    def collect(self, *, keep: bool) -> None:  # noqa: B027
        """Put together what is to be saved where it lies in parts on the processes, for the one that keeps it.

        After the last step; every process has to ask.
        """

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Write what was trained so that the base loads it, and give the file or folder to load."""

    def predict(self, batch: Batch, noised: Tensor, t: Tensor) -> Tensor:
        """The velocity ``[B, C, T, h, w]`` in float32 at ``noised`` and ``t`` ``[B]``."""
        return self.base.velocity(noised, t, batch.condition).float()


@final
class LoraPolicy(Policy):
    """A LoRA on the frozen transformer, as peft makes it through diffusers."""

    def __init__(self, base: Base, config: AdapterConfig, start: Path | None, seed: int) -> None:
        """``start``: a LoRA file that training continues from; its shape is then that of the new one.

        The LoRA's matrices begin as a function of ``seed``. Raises :class:`UserError` where ``start`` does not fit.
        """
        from peft.tuners.tuners_utils import BaseTunerLayer

        super().__init__(base)
        for network in self.networks:
            network.requires_grad_(False)
        torch.manual_seed(seed)
        if start is None:
            self.reference_is = "the base model: the LoRA switched off"
            self._add(config)
        else:
            self.reference_is = f"the LoRA that training continued from, frozen: {start.name}"
            for name in (FROZEN, ADAPTER):
                base.load_adapter(start, name)
        self._frozen = start is not None
        if start is not None:
            self.adapter = self._continued(start)
        self._stored = torch.float16 if config.half else torch.float32
        self._strength = config.strength
        for network in self.networks:
            network.set_adapter(ADAPTER)
        # what diffusers switches by a walk through all modules, which begins with a search for peft's version on disk
        self._layers = [
            module for network in self.networks for module in network.modules() if isinstance(module, BaseTunerLayer)
        ]
        for name, parameter in self.named():
            mine = f".{ADAPTER}." in name
            parameter.requires_grad_(mine)
            if mine:  # trained in fp32 whatever the frozen weights are
                parameter.data = parameter.data.float()

    def _add(self, config: AdapterConfig) -> None:
        from peft import LoraConfig

        alpha = config.rank if config.alpha is None else config.alpha
        for network in self.networks:
            settings = LoraConfig(
                r=config.rank,
                lora_alpha=alpha,
                lora_dropout=config.dropout,
                init_lora_weights="gaussian",
                target_modules=self.base.adapted(config.layers, config.blocks),
            )
            network.add_adapter(settings, adapter_name=ADAPTER)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The LoRA off, or the frozen one on without its dropout."""
        training = self.training
        self.train(False)
        for layer in self._layers:
            if self._frozen:
                layer.set_adapter([FROZEN])
            else:
                layer.enable_adapters(False)
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(training)
            for layer in self._layers:
                if not self._frozen:
                    layer.enable_adapters(True)
                layer.set_adapter([ADAPTER])
            for name, parameter in self.named():
                if ".lora_" in name:  # switching adapters switches their gradients too
                    parameter.requires_grad_(f".{ADAPTER}." in name)

    def save(self, folder: Path) -> Path:
        """A file of safetensors for each network, as the base's pipeline loads it; the same LoRA is the same file."""
        folder.mkdir(parents=True, exist_ok=True)
        file = self.base.save_adapter(
            folder, {name: self._stored_of(each) for name, each in self.base.networks.items()}
        )
        for part in lora_parts(file).values():
            part.write_bytes(lora.ordered(part.read_bytes()))
        return file

    def _stored_of(self, network: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The LoRA of one network as it is stored, and its settings."""
        layers, settings = lora.adapter(network, ADAPTER)
        if self._strength != 1.0:
            layers, settings = self._stronger(network)
        # Sets have no order: the same LoRA is the same file.
        settings = {name: sorted(value) if isinstance(value, set) else value for name, value in settings.items()}
        return {name: tensor.detach().to("cpu", self._stored).contiguous() for name, tensor in layers.items()}, settings

    def _stronger(self, network: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The trained LoRA, its change applied ``strength`` times, and its settings.

        From a LoRA it goes on to one of that one's ranks, or every round would double them; what that leaves out is of
        second order in what training changed.
        """
        tensors, settings = lora.adapter(network, ADAPTER)
        mine = lora.of(tensors, settings)
        if not self._frozen:
            return lora.tensors(lora.mean([mine], None, self._strength)), settings
        made = lora.mean([mine], lora.of(*lora.adapter(network, FROZEN)), self._strength)
        made, left_out = lora.extract(made, {name: layer.rank for name, layer in mine.items()})
        assert self.adapter is not None
        self.adapter["left_out"] = max(self.adapter["left_out"], left_out)
        return lora.tensors(made), lora.settings(made, settings)

    def _continued(self, start: Path) -> dict[str, Any]:
        """What the LoRA that training continues from decides. Raises :class:`UserError` where it is no plain LoRA."""
        found = [lora.adapter(network, ADAPTER) for network in self.networks]
        try:
            layers = [layer for each in found for layer in lora.of(*each).values()]
        except ValueError as error:
            raise UserError(f"{start}: {error}", "continue from a plain LoRA") from None
        return {
            "continues": start.name,
            "ranks": sorted({layer.rank for layer in layers}),
            "scales": sorted({layer.scale for layer in layers}),
            "layers": len(layers),
            "dropout": float(found[0][1].get("lora_dropout") or 0.0),
            #: share of the change that a strength other than 1 lost to keep the ranks
            "left_out": 0.0,
        }


@final
class FullPolicy(Policy):
    """Every weight is trained; the weights it began with are held in host memory."""

    reference_is = "the base model: a copy of its weights in host memory, swapped in"

    def __init__(self, base: Base, *, later: bool = False) -> None:
        """``later``: the weights are still to be divided, after which :meth:`begin` keeps them."""
        super().__init__(base)
        for network in self.networks:
            network.requires_grad_(True)
        self._began: dict[str, Tensor] = {}
        if not later:
            self.begin()

    def begin(self) -> None:
        """Keep the weights as they are now: of divided ones this process's part."""
        self._began = {n: parts.mine(p).detach().to("cpu", copy=True) for n, p in self.parameters.items()}

    def collect(self, *, keep: bool) -> None:
        """See :func:`trainers.parts.collect`."""
        parts.collect(self.networks, keep=keep)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The weights that training began with, in the place of the trained ones."""
        with exchanged(self.parameters, self._began), torch.no_grad():
            yield

    def save(self, folder: Path) -> Path:
        """A whole model's folder."""
        self.base.save(folder)
        return folder


def checkpoint_but_attention(module: Any, *given: Any) -> Any:
    """A module's result, whose activations are computed again in the backward pass, but for what attention gave.

    That is a value for each one of the module's input, and with the length of clips most of the work.
    """
    from torch.utils import checkpoint

    def kept(_: Any, operation: Any, *__: Any, **___: Any) -> checkpoint.CheckpointPolicy:
        # torch's own kernels, and those that packages bring: aten::_scaled_dot_product_..., flash_attn::...
        attends = "attention" in str(operation) or "attn" in str(operation)
        return checkpoint.CheckpointPolicy.MUST_SAVE if attends else checkpoint.CheckpointPolicy.PREFER_RECOMPUTE

    contexts = partial(checkpoint.create_selective_checkpoint_contexts, kept)
    return checkpoint.checkpoint(module.__call__, *given, use_reentrant=False, context_fn=contexts)


@contextmanager
def exchanged(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the parameters that ``values`` names have these; of divided ones values are this process's part."""
    chosen = {name: parameters[name] for name in values}
    mine = {n: parts.mine(p).detach().clone() if parts.divided(p) else p.data for n, p in chosen.items()}
    try:
        _exchange(parameters, values)
        yield
    finally:
        _exchange(parameters, mine)


def _exchange(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    """Put other values in the place of parameters.

    Autocast remembers what it has made of a parameter, whatever values it holds since: that is forgotten.
    """
    for name, value in values.items():
        parameter = parameters[name]
        if parts.divided(parameter):  # what gathers it knows its memory
            parts.mine(parameter).data.copy_(value)
        else:
            parameter.data = value.to(parameter.device)
    torch.clear_autocast_cache()


def build(base: Base, config: AdapterConfig, start: Path | None, seed: int, *, later: bool = False) -> Policy:
    """The policy that a configuration asks for. ``later``: :meth:`Policy.begin` is called when weights are divided."""
    return FullPolicy(base, later=later) if config.full else LoraPolicy(base, config, start, seed)


def trainable_size(parameters: Mapping[str, nn.Parameter]) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in parameters.values())
