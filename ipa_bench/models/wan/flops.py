"""What a Wan transformer needs by its configuration alone: FLOPs of a forward and a training step, and bytes.

One multiply-add is 2 FLOPs, as in ``torch.utils.flop_counter``. Matrix products, convolutions and attention count;
norms, activations, the rotary embedding and the optimizer do not: they are bound by memory, not by arithmetic.
The architectures are those of ``diffusers.WanVACETransformer3DModel`` and, without control blocks, of
``diffusers.WanTransformer3DModel``. Attention is never skipped by causality, so scores and their product with the
values are 4 · queries · keys · width. Its backward pass repeats the scores, as flash and memory-efficient kernels do
(Dao et al. 2022, arXiv:2205.14135): 5 products where the forward pass has 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import partial
from math import prod
from typing import Any, Literal

from ipa_bench.errors import UserError
from ipa_bench.models.outline import DTYPE_BYTES, Bytes, Checkpointing, Lora, Shape, Trained

#: a transformer's ``config``, or its ``config.json``
Config = Mapping[str, Any]
#: parts that diffusers keeps in fp32 whatever is asked for (``_keep_in_fp32_modules`` of the transformer)
_KEPT = {"time_embedder", "scale_shift_table", "norm1", "norm2", "norm3", "motion_synthesis_weight"}
_LAYERS = {
    "qkv": r"attn[12]\.(to_q|to_k|to_v)",
    "attention": r"attn[12]\.(to_q|to_k|to_v|to_out\.0)",
    "linear": r"(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))",
}
_IMAGE = r"attn2\.add_[kv]_proj"
_BLOCKS = {"all": "(blocks|vace_blocks)", "main": "blocks", "vace": "vace_blocks"}


def adapted(layers: str, blocks: str, *, image: bool = False) -> str:
    """A pattern of the layers that have an adapter: it matches a whole name such as ``blocks.0.attn1.to_q``.

    With ``image`` the keys and values of an image encoder's tokens are among them: diffusers expects them in a LoRA of
    a transformer that has such tokens.
    """
    inside = f"({_LAYERS[layers]}|{_IMAGE})" if image else _LAYERS[layers]
    return rf"{_BLOCKS[blocks]}\.\d+\.{inside}"


def _on(layer: str, lora: Lora) -> bool:
    # where there are image layers they have an adapter
    return re.fullmatch(adapted(lora.layers, lora.blocks, image=True), layer) is not None


@dataclass(frozen=True)
class Flops:
    """FLOPs of one pass: forward, backward, and what gradient checkpointing repeats of the forward pass in between."""

    forward: int = 0
    backward: int = 0
    repeated: int = 0
    #: what of that is attention
    attended: int = 0

    def __add__(self, other: Flops) -> Flops:
        return Flops(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def again(self, checkpointing: Checkpointing) -> int:
        """What a backward pass computes again."""
        if checkpointing == "attention":
            return self.repeated - self.attended
        return self.repeated if checkpointing else 0


def parameters(config: Config) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of the transformer, as ``named_parameters`` has them.

    Raises :class:`UserError` for a configuration with an image encoder, which no checkpoint of VACE and of Phantom has.
    """
    if config.get("image_dim") is not None or config.get("added_kv_proj_dim") is not None:
        raise UserError("a transformer with an image encoder is not counted", "give one of WanVACE or of Phantom")
    return dict(_parameters(config))


def _parameters(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    patch, dim = tuple(config["patch_size"]), _dim(config)

    def linear(name: str, wide: int, out: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (out, wide)
        yield f"{name}.bias", (out,)

    yield "scale_shift_table", (1, 2, dim)
    control = (("vace_patch_embedding", "vace_in_channels"),) if config.get("vace_layers") else ()
    for name, channels in (("patch_embedding", "in_channels"), *control):
        yield f"{name}.weight", (dim, config[channels], *patch)
        yield f"{name}.bias", (dim,)
    for name, wide in (("time_embedder", "freq_dim"), ("text_embedder", "text_dim")):
        yield from linear(f"condition_embedder.{name}.linear_1", config[wide], dim)
        yield from linear(f"condition_embedder.{name}.linear_2", dim, dim)
    yield from linear("condition_embedder.time_proj", dim, 6 * dim)
    yield from linear("proj_out", dim, (config["out_channels"] or config["in_channels"]) * prod(patch))
    blocks = [f"blocks.{i}" for i in range(config["num_layers"])]
    controls = [f"vace_blocks.{i}" for i in range(len(config.get("vace_layers") or ()))]
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
    if controls:
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
    tokens, dim = shape.tokens(config["patch_size"]), _dim(config)
    for block in _blocks(config):
        for keys in (tokens // shape.batch, shape.text):
            forward = 4 * tokens * keys * dim
            learns = _learns(block, trained)
            again = forward if learns else 0
            total += Flops(forward, forward * 5 // 2 if learns else 0, again, again)
    return total


def _layer(layer: str, sides: tuple[int, ...], rows: int, trained: Trained) -> Flops:
    """A linear layer (a convolution of patches is one too) on ``rows`` rows, with its adapter where it has one."""
    forward, block = 2 * rows * prod(sides), _block_of(layer)
    through = _gradient_of_input(layer, trained)
    backward = forward * (through + (trained == "full"))
    if isinstance(trained, Lora) and _on(layer, trained):
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
    return shape.batch * shape.text if text else shape.tokens(config["patch_size"])


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
    checkpointing: Checkpointing = False,
    reference: Lora | bool = False,
    old: bool = False,
) -> int:
    """FLOPs of one training step on ``shape.batch`` items of ``clips`` clips each: 2 where they are pairs.

    ``reference``: whether its error is computed, a forward pass for each clip, of the base model or with the frozen
    adapter that is given here. ``old``: whether an old policy has a pass too, with an adapter as the trained one.
    """
    options: dict[str, Any] = {"clips": clips, "checkpointing": checkpointing, "reference": reference, "old": old}
    return step_flops(partial(pass_flops, config), shape, trained, **options)


def step_flops(
    one: Callable[[Shape, Trained], Flops],
    shape: Shape,
    trained: Lora | Literal["full"],
    *,
    clips: int,
    checkpointing: Checkpointing,
    reference: Lora | bool,
    old: bool,
) -> int:
    """:func:`update_flops` of any network: ``one`` gives what a pass takes."""
    policy = one(shape, trained)
    step = policy.forward + policy.backward + policy.again(checkpointing)
    if reference:
        step += one(shape, reference if isinstance(reference, Lora) else None).forward
    if old:
        step += policy.forward
    return step * clips


def forward_flops(config: Config, shape: Shape, adapter: Lora | None = None) -> int:
    """FLOPs of one forward pass, with an adapter that is not merged into the weights where one is given."""
    return pass_flops(config, shape, adapter).forward


def training_bytes(config: Config, dtype: str, trained: Trained, *, average: bool = False) -> Bytes:
    """Exact bytes of parameters and what belongs to them, with the frozen weights in ``dtype`` (fp32, bf16, fp16).

    The transformer alone, without buffers, text encoder and VAE. With ``trained=None`` it is what sampling holds.
    """
    return bytes_of(parameters(config), dtype, trained, average=average)


def bytes_of(shapes: Mapping[str, tuple[int, ...]], dtype: str, trained: Trained, *, average: bool = False) -> Bytes:
    """:func:`training_bytes` of a transformer with parameters of these names and shapes."""
    if trained == "full":
        values = sum(map(prod, shapes.values()))
        moments = 8 * values + 4 * len(shapes)
        return Bytes(4 * values, 0, 4 * values, moments, 4 * values if average else 0, host=4 * values)
    weights = sum(prod(s) * (4 if _KEPT & set(name.split(".")) else DTYPE_BYTES[dtype]) for name, s in shapes.items())
    if trained is None:
        return Bytes.of_adapter(weights, 0, 0)
    layers = {name[: -len(".weight")]: s for name, s in shapes.items() if name.endswith(".weight")}
    sides = [s for name, s in layers.items() if _on(name, trained)]
    return Bytes.of_adapter(weights, sum(trained.rank * sum(s) for s in sides), 2 * len(sides), average=average)
