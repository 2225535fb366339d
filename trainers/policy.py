"""What is trained, and what it is compared with: a WanVACE transformer with a LoRA (or all its weights).

The reference is never a second copy in device memory: it is the same transformer with the LoRA switched off, with a
frozen LoRA where training continues from one, or (for full fine-tuning) with the weights it began with, held in host
memory and swapped in.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from ipa_bench.errors import UserError
from ipa_bench.files import LORA_FILE
from ipa_bench.models.lora import load_lora
from ipa_bench.models.wan.conditioning import Pipe
from trainers import flow, lora
from trainers.config import AdapterConfig
from trainers.data.encode import Batch

#: the adapter that is trained, and the frozen one that training continued from
ADAPTER, FROZEN = "policy", "reference"
_LAYERS = {
    "qkv": r"attn[12]\.(to_q|to_k|to_v)",
    "attention": r"attn[12]\.(to_q|to_k|to_v|to_out\.0)",
    "linear": r"(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))",
}
_BLOCKS = {"all": "(blocks|vace_blocks)", "main": "blocks", "vace": "vace_blocks"}


class Policy(ABC):
    """A transformer whose parameters are trained, and its reference."""

    #: how the reference is had, in one line: what a checkpoint was anchored to
    reference_is: str
    #: what is trained where that is not what the configuration says: it continues from a LoRA, and is of its shape
    adapter: dict[str, Any] | None = None

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.transformer: Any = pipe.transformer

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name, in a fixed order."""
        return {name: p for name, p in self.transformer.named_parameters() if p.requires_grad}

    @abstractmethod
    def reference(self) -> Any:
        """A context in which the transformer is the reference, without gradients."""

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Write what was trained so that diffusers loads it, and give the file or folder to load."""

    def predict(self, batch: Batch, noised: Tensor, t: Tensor) -> Tensor:
        """The velocity ``[B, z, T, h, w]`` in float32 at ``noised`` and ``t`` ``[B]``."""
        dtype = self.transformer.dtype
        with warnings.catch_warnings():
            # Norms keep fp32 weights under autocast; torch says each time that this takes its slower path.
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
            out: Tensor = self.transformer(
                hidden_states=noised.to(dtype),
                timestep=t * flow.TIMESTEPS,
                encoder_hidden_states=batch.prompt.to(dtype),
                control_hidden_states=batch.control.to(dtype),
                return_dict=False,
            )[0]
        return out.float()


@final
class LoraPolicy(Policy):
    """A LoRA on the frozen transformer, as peft makes it through diffusers."""

    def __init__(self, pipe: Pipe, config: AdapterConfig, start: Path | None, seed: int) -> None:
        """``start``: a LoRA file that training continues from; its shape is then that of the new one.

        The LoRA's matrices begin as a function of ``seed``. Raises :class:`UserError` where ``start`` does not fit.
        """
        super().__init__(pipe)
        from peft import LoraConfig

        transformer = self.transformer
        transformer.requires_grad_(False)
        torch.manual_seed(seed)
        if start is None:
            self.reference_is = "the base model: the LoRA switched off"
            alpha = config.rank if config.alpha is None else config.alpha
            settings = LoraConfig(
                r=config.rank,
                lora_alpha=alpha,  # type: ignore[arg-type]
                lora_dropout=config.dropout,
                init_lora_weights="gaussian",
                target_modules=rf"{_BLOCKS[config.blocks]}\.\d+\.{_LAYERS[config.layers]}",
            )
            transformer.add_adapter(settings, adapter_name=ADAPTER)
        else:
            self.reference_is = f"the LoRA that training continued from, frozen: {start.name}"
            for name in (FROZEN, ADAPTER):
                load_lora(pipe, start, name)
        self._frozen = start is not None
        if start is not None:
            self.adapter = self._continued(start)
        self._stored = torch.float16 if config.half else torch.float32
        self._strength = config.strength
        transformer.set_adapter(ADAPTER)
        for name, parameter in transformer.named_parameters():
            mine = f".{ADAPTER}." in name
            parameter.requires_grad_(mine)
            if mine:  # trained in fp32 whatever the frozen weights are
                parameter.data = parameter.data.float()

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The LoRA off, or the frozen one on without its dropout."""
        transformer = self.transformer
        training = transformer.training
        transformer.eval()
        if self._frozen:
            transformer.set_adapter(FROZEN)
        else:
            transformer.disable_adapters()
        try:
            with torch.no_grad():
                yield
        finally:
            transformer.train(training)
            if not self._frozen:
                transformer.enable_adapters()
            transformer.set_adapter(ADAPTER)
            for name, parameter in transformer.named_parameters():
                if ".lora_" in name:  # switching adapters switches their gradients too
                    parameter.requires_grad_(f".{ADAPTER}." in name)

    def save(self, folder: Path) -> Path:
        """``pytorch_lora_weights.safetensors``, for ``WanVACEPipeline.load_lora_weights``."""
        from diffusers import WanVACEPipeline

        folder.mkdir(parents=True, exist_ok=True)
        layers, settings = lora.adapter(self.transformer, ADAPTER)
        if self._strength != 1.0:
            layers, settings = self._stronger()
        # Sets have no order: the same LoRA is the same file.
        settings = {name: sorted(value) if isinstance(value, set) else value for name, value in settings.items()}
        stored = {name: tensor.detach().to("cpu", self._stored).contiguous() for name, tensor in layers.items()}
        WanVACEPipeline.save_lora_weights(
            str(folder),
            transformer_lora_layers=stored,
            transformer_lora_adapter_metadata=settings,
        )
        file = folder / LORA_FILE
        file.write_bytes(lora.ordered(file.read_bytes()))
        return file

    def _stronger(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The trained LoRA, its change applied ``strength`` times, and its settings.

        From a LoRA it goes on to one of that one's ranks, or every round would double them; what that leaves out is of
        second order in what training changed.
        """
        tensors, settings = lora.adapter(self.transformer, ADAPTER)
        mine = lora.of(tensors, settings)
        if not self._frozen:
            return lora.tensors(lora.mean([mine], None, self._strength)), settings
        made = lora.mean([mine], lora.of(*lora.adapter(self.transformer, FROZEN)), self._strength)
        made, left_out = lora.extract(made, {name: layer.rank for name, layer in mine.items()})
        assert self.adapter is not None
        self.adapter["left_out"] = left_out
        return lora.tensors(made), lora.settings(made, settings)

    def _continued(self, start: Path) -> dict[str, Any]:
        """What the LoRA that training continues from decides. Raises :class:`UserError` where it is no plain LoRA."""
        try:
            tensors, settings = lora.adapter(self.transformer, ADAPTER)
            layers = lora.of(tensors, settings)
        except ValueError as error:
            raise UserError(f"{start}: {error}", "continue from a plain LoRA") from None
        return {
            "continues": start.name,
            "ranks": sorted({layer.rank for layer in layers.values()}),
            "scales": sorted({layer.scale for layer in layers.values()}),
            "layers": len(layers),
            "dropout": float(settings.get("lora_dropout") or 0.0),
            #: share of the change that a strength other than 1 lost to keep the ranks
            "left_out": 0.0,
        }


@final
class FullPolicy(Policy):
    """Every weight is trained; the weights it began with are held in host memory."""

    reference_is = "the base model: a copy of its weights in host memory, swapped in"

    def __init__(self, pipe: Pipe) -> None:
        super().__init__(pipe)
        self.transformer.requires_grad_(True)
        self._began = {name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()}

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The weights that training began with, in the place of the trained ones."""
        mine = {name: p.data for name, p in self.parameters.items()}
        try:
            for name, parameter in self.parameters.items():
                parameter.data = self._began[name].to(parameter.device)
            with torch.no_grad():
                yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data = mine[name]

    def save(self, folder: Path) -> Path:
        """A whole diffusers folder."""
        self.pipe.save_pretrained(folder, safe_serialization=True)
        return folder


def build(pipe: Pipe, config: AdapterConfig, start: Path | None, seed: int) -> Policy:
    """The policy that a configuration asks for."""
    return FullPolicy(pipe) if config.full else LoraPolicy(pipe, config, start, seed)


def trainable_size(parameters: Mapping[str, nn.Parameter]) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in parameters.values())
