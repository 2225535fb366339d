"""What a WanVACE transformer needs by its configuration alone: FLOPs of a forward and a training step, and bytes.

One multiply-add is 2 FLOPs, as in ``torch.utils.flop_counter``. Matrix products, convolutions and attention count;
norms, activations, the rotary embedding and the optimizer do not: they are bound by memory, not by arithmetic.
The architecture is that of ``diffusers.WanVACETransformer3DModel``. Attention is never skipped by causality, so scores
and their product with the values are 4 · queries · keys · width. Its backward pass repeats the scores, as flash and
memory-efficient kernels do (Dao et al. 2022, arXiv:2205.14135): 5 products where the forward pass has 2.
Counting for real: :func:`count_flops`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, Generic, Literal, TypeVar, cast

from ipa_bench.cost.device import Amount
from ipa_bench.errors import UserError

T = TypeVar("T")
#: a transformer's ``config``, or its ``config.json``
Config = Mapping[str, Any]
DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
#: parts that diffusers keeps in fp32 whatever is asked for (``_keep_in_fp32_modules`` of the transformer)
_KEPT = {"time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"}
_LAYERS = {
    "qkv": r"attn[12]\.to_[qkv]",
    "attention": r"attn[12]\.(to_[qkv]|to_out\.0)",
    "linear": r"(attn[12]\.(to_[qkv]|to_out\.0)|ffn\.net\.(0\.proj|2))",
}
_BLOCKS = {"all": r"(blocks|vace_blocks)", "main": r"blocks", "vace": r"vace_blocks"}
#: operations of these names do much arithmetic: one that torch has no formula for leaves a count unknown
_HEAVY = re.compile(r"(^|_)(conv|linear|(add|b|baddb)?mm(_|$)|matmul|einsum|lstm|gru)|attention|attn", re.IGNORECASE)


@dataclass(frozen=True)
class Lora:
    """Which layers have an adapter, in the words of the training configuration."""

    rank: int
    layers: Literal["qkv", "attention", "linear"] = "qkv"
    blocks: Literal["all", "main", "vace"] = "all"

    def on(self, layer: str) -> bool:
        """Whether a layer, such as ``blocks.0.attn1.to_q``, has one."""
        return re.fullmatch(rf"{_BLOCKS[self.blocks]}\.\d+\.{_LAYERS[self.layers]}", layer) is not None


#: what is trained: every weight, an adapter, or nothing
Trained = Lora | Literal["full"] | None


@dataclass(frozen=True)
class Shape:
    """What one forward pass sees. Latent frames include those of reference images."""

    #: latent frames, height and width
    frames: int
    height: int
    width: int
    #: tokens of the prompt, padding included: 512 for Wan
    text: int
    batch: int = 1

    @classmethod
    def of_video(
        cls, frames: int, size: tuple[int, int], *, text: int = 512, references: int = 1, batch: int = 1,
        time: int = 4, space: int = 8,
    ) -> Shape:  # fmt: skip
        """The shape for clips of ``frames`` frames and ``size`` (width, height) with so many reference images.

        ``time`` and ``space`` are the VAE's factors, Wan's by default: the first frame has a latent frame of its own.
        Raises ``ValueError`` for a clip that they do not divide.
        """
        if frames < 1 or (frames - 1) % time or any(side % space for side in size):
            raise ValueError(f"{frames} frames of {size[0]}x{size[1]} are no multiples of {time} (plus 1) and {space}")
        return cls((frames - 1) // time + 1 + references, size[1] // space, size[0] // space, text, batch)

    def tokens(self, config: Config) -> int:
        """Video tokens of the whole batch. Raises ``ValueError`` where patches do not divide the latents."""
        sides = (self.frames, self.height, self.width)
        if min(sides) < 1 or any(side % patch for side, patch in zip(sides, config["patch_size"], strict=True)):
            raise ValueError(f"latents of {sides} cannot be cut into patches of {tuple(config['patch_size'])}")
        return self.batch * prod(sides) // prod(config["patch_size"])


@dataclass(frozen=True)
class Flops:
    """FLOPs of one pass: forward, backward, and what gradient checkpointing repeats of the forward pass in between."""

    forward: int = 0
    backward: int = 0
    repeated: int = 0

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.forward + other.forward, self.backward + other.backward, self.repeated + other.repeated)


def parameters(config: Config) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of the transformer, as ``named_parameters`` has them.

    Raises :class:`UserError` for a configuration with an image encoder, which no VACE checkpoint has.
    """
    if config.get("image_dim") is not None or config.get("added_kv_proj_dim") is not None:
        raise UserError("a transformer with an image encoder is not counted", "give one of WanVACE")
    return dict(_parameters(config))


def _parameters(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    patch, dim = tuple(config["patch_size"]), _dim(config)

    def linear(name: str, wide: int, out: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (out, wide)
        yield f"{name}.bias", (out,)

    yield "scale_shift_table", (1, 2, dim)
    for name, channels in (("patch_embedding", "in_channels"), ("vace_patch_embedding", "vace_in_channels")):
        yield f"{name}.weight", (dim, config[channels], *patch)
        yield f"{name}.bias", (dim,)
    for name, wide in (("time_embedder", "freq_dim"), ("text_embedder", "text_dim")):
        yield from linear(f"condition_embedder.{name}.linear_1", config[wide], dim)
        yield from linear(f"condition_embedder.{name}.linear_2", dim, dim)
    yield from linear("condition_embedder.time_proj", dim, 6 * dim)
    yield from linear("proj_out", dim, (config["out_channels"] or config["in_channels"]) * prod(patch))
    blocks = [f"blocks.{i}" for i in range(config["num_layers"])]
    controls = [f"vace_blocks.{i}" for i in range(len(config["vace_layers"]))]
    for block in blocks + controls:
        yield f"{block}.scale_shift_table", (1, 6, dim)
        if config["cross_attn_norm"]:
            yield f"{block}.norm2.weight", (dim,)
            yield f"{block}.norm2.bias", (dim,)
        for attention in ("attn1", "attn2"):
            for layer in ("to_q", "to_k", "to_v", "to_out.0"):
                yield from linear(f"{block}.{attention}.{layer}", dim, dim)
            for norm in ("norm_q", "norm_k"):
                yield f"{block}.{attention}.{norm}.weight", (dim,)
        yield from linear(f"{block}.ffn.net.0.proj", dim, config["ffn_dim"])
        yield from linear(f"{block}.ffn.net.2", config["ffn_dim"], dim)
    yield from linear(f"{controls[0]}.proj_in", dim, dim)
    for block in controls:
        yield from linear(f"{block}.proj_out", dim, dim)


def _dim(config: Config) -> int:
    return int(config["num_attention_heads"] * config["attention_head_dim"])


def pass_flops(config: Config, shape: Shape, trained: Trained = None) -> Flops:
    """FLOPs of a forward pass and, where something is trained, of its backward pass.

    A frozen layer's backward pass has the gradient of its input only (once its forward FLOPs), a trained one's also
    that of its weight (twice), attention's is two and a half times its forward pass, and what lies before the first
    trained layer has none. So a LoRA's backward pass is about the forward pass for short clips, and about twice that
    where attention is most of the work: 2.07 times for Wan 1.3B, 81 frames of 832x480 and rank 128. The adapter's own
    products are in both. ``repeated`` is what checkpointing every block adds.
    """
    total = Flops()
    for name, sides in parameters(config).items():
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and len(sides) > 1:
            total += _layer(layer, sides, _rows(layer, shape, config), trained)
    tokens, dim = shape.tokens(config), _dim(config)
    for block in _blocks(config):
        for keys in (tokens // shape.batch, shape.text):
            forward = 4 * tokens * keys * dim
            learns = _learns(block, trained)
            total += Flops(forward, forward * 5 // 2 if learns else 0, forward if learns else 0)
    return total


def _layer(layer: str, sides: tuple[int, ...], rows: int, trained: Trained) -> Flops:
    """A linear layer (a convolution of patches is one too) on ``rows`` rows, with its adapter where it has one."""
    forward, block = 2 * rows * prod(sides), _block_of(layer)
    through = _gradient_of_input(layer, trained)
    backward = forward * (through + (trained == "full"))
    if isinstance(trained, Lora) and trained.on(layer):
        down, up = 2 * rows * trained.rank * sides[1], 2 * rows * trained.rank * sides[0]
        forward += down + up
        backward += 2 * up + down * (1 + through)
    # The last layer of a control block comes after everything that the backward pass needs from it.
    repeated = forward if block and _learns(block, trained) and not layer.endswith("proj_out") else 0
    return Flops(forward, backward, repeated)


def _rows(layer: str, shape: Shape, config: Config) -> int:
    """Rows of the matrix that a layer is applied to."""
    if ".time_" in layer:
        return shape.batch
    text = "text_embedder" in layer or layer.endswith(("attn2.to_k", "attn2.to_v"))
    return shape.batch * shape.text if text else shape.tokens(config)


def _gradient_of_input(layer: str, trained: Trained) -> bool:
    """Whether the backward pass needs the gradient of a layer's input."""
    if trained is None:
        return False
    if trained == "full":  # but for what is given: latents, control, prompt and time
        return not layer.endswith(("patch_embedding", "linear_1"))
    block = _block_of(layer)
    if not block:
        return layer == "proj_out"
    if not _learns(block, trained) or layer.endswith(("proj_in", "attn2.to_k", "attn2.to_v")):
        return False
    # Gradients end at the queries, keys and values of the first block that has an adapter.
    return not (_is_first(block, trained) and re.search(r"attn1\.to_[qkv]$", layer))


def _learns(block: str, trained: Trained) -> bool:
    """Whether gradients go through a block: those before the first trained one have none."""
    if trained is None or trained == "full":
        return trained is not None
    if block.startswith("vace"):
        return trained.blocks != "main"
    return trained.blocks != "vace" or block != "blocks.0"  # the first control is added after the first block


def _is_first(block: str, trained: Lora) -> bool:
    return block == "vace_blocks.0" or (block == "blocks.0" and trained.blocks != "vace")


def _block_of(layer: str) -> str:
    found = re.match(r"(vace_)?blocks\.\d+", layer)
    return found[0] if found else ""


def _blocks(config: Config) -> list[str]:
    return sorted({_block_of(name) for name in parameters(config)} - {""})


def update_flops(
    config: Config,
    shape: Shape,
    trained: Lora | Literal["full"],
    *,
    clips: int = 1,
    checkpointing: bool = False,
    reference: Lora | bool = False,
) -> int:
    """FLOPs of one training step on ``shape.batch`` items of ``clips`` clips each: 2 where they are pairs.

    ``reference``: whether its error is computed, a forward pass for each clip, of the base model or with the frozen
    adapter that is given here.
    """
    policy = pass_flops(config, shape, trained)
    step = policy.forward + policy.backward + (policy.repeated if checkpointing else 0)
    if reference:
        step += forward_flops(config, shape, reference if isinstance(reference, Lora) else None)
    return step * clips


def forward_flops(config: Config, shape: Shape, adapter: Lora | None = None) -> int:
    """FLOPs of one forward pass, with an adapter that is not merged into the weights where one is given."""
    return pass_flops(config, shape, adapter).forward


def sample_flops(config: Config, shape: Shape, steps: int, guidance: float, adapter: Lora | None = None) -> int:
    """FLOPs of denoising: two forward passes a step with ``guidance`` above 1. Text encoder and VAE are not in it."""
    return steps * (2 if guidance > 1 else 1) * forward_flops(config, shape, adapter)


@dataclass(frozen=True)
class Bytes:
    """Bytes that training holds whatever the clip. Activations are not among them: they are measured, not guessed."""

    #: the transformer's own weights
    weights: int
    #: the LoRA, in fp32
    adapter: int
    gradients: int
    #: AdamW: two moments of every trained value, and a step count of every tensor
    optimizer: int
    #: the running average of trained weights
    average: int
    #: weights that training began with, in host memory: full fine-tuning's reference
    host: int

    @property
    def device(self) -> int:
        """All that lies on the device that trains."""
        return self.weights + self.adapter + self.gradients + self.optimizer + self.average


def training_bytes(config: Config, dtype: str, trained: Trained, *, average: bool = False) -> Bytes:
    """Exact bytes of parameters and what belongs to them, with the frozen weights in ``dtype`` (fp32, bf16, fp16).

    The transformer alone, without buffers, text encoder and VAE. With ``trained=None`` it is what sampling holds.
    """
    shapes = parameters(config)
    weights = sum(prod(s) * (4 if _KEPT & set(name.split(".")) else DTYPE_BYTES[dtype]) for name, s in shapes.items())
    values = tensors = 0
    if trained == "full":
        weights = 4 * sum(map(prod, shapes.values()))
        values, tensors = weights // 4, len(shapes)
    elif trained is not None:
        sides = [s for name, s in shapes.items() if name.endswith(".weight") and trained.on(name[: -len(".weight")])]
        values, tensors = sum(trained.rank * sum(s) for s in sides), 2 * len(sides)
    full = trained == "full"
    return Bytes(
        weights,
        adapter=0 if full else 4 * values,
        gradients=4 * values,
        optimizer=8 * values + 4 * tensors,
        average=4 * values if average else 0,
        host=4 * values if full else 0,
    )


@dataclass(frozen=True)
class Counted(Generic[T]):
    """What a piece of work gave, and its FLOPs."""

    result: T
    #: not known where an operation ran that torch has no formula for
    flops: Amount


_KNOWN: dict[Hashable, Amount] = {}


def count_flops(work: Callable[[], T], key: Hashable = None) -> Counted[T]:
    """Do the work and count its FLOPs by ``torch.utils.flop_counter``, backward passes and recomputation included.

    With a ``key`` it is counted once: later work of the same key runs as it is and has the first one's count. The key
    names all that decides it: what is done, every shape, and what is trained. Counting slows small operations down.
    Torch's counter leaves out attention on a CPU; here it has the same formula as on a GPU.
    """
    if key is not None and key in _KNOWN:
        return Counted(work(), _KNOWN[key])
    import torch
    from torch.utils import flop_counter

    aten, formulas = torch.ops.aten, cast(Any, flop_counter)
    on_cpu: dict[Any, Any] = {
        aten._scaled_dot_product_flash_attention_for_cpu: (
            lambda query, key, value, *_, **__: formulas.sdpa_flop_count(query, key, value)
        ),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda grad, query, key, value, *_, **__: formulas.sdpa_backward_flop_count(grad, query, key, value)
        ),
    }
    counter = flop_counter.FlopCounterMode(display=False, custom_mapping=on_cpu)
    with _operations() as seen, counter:
        result = work()
    lacking = sorted(
        str(op) for op in seen if op not in counter.flop_registry and _HEAVY.search(str(op).rpartition(".")[2])
    )
    flops = Amount(reason=f"no formula for {', '.join(lacking)}") if lacking else Amount(counter.get_total_flops())
    if key is not None:
        _KNOWN[key] = flops
    return Counted(result, flops)


@contextmanager
def _operations() -> Iterator[set[Any]]:
    """The operations that run inside, once decomposed."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: set[Any] = set()

    class Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.add(getattr(function, "_overloadpacket", function))
            return function(*args, **(kwargs or {}))

    with Seen():  # type: ignore[no-untyped-call]
        yield seen
