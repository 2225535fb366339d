"""How the networks of a base compute, where a suite or a configuration says so: attention, compiled blocks, fp8.

Nothing here changes what is computed by more than rounding, but for sage attention, which computes in int8, and weights
in fp8, which are rounded to three bits of mantissa.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Attention = Literal[
    "native", "flash", "efficient", "cudnn", "math", "flash_attn", "flash_attn_3", "sage", "xformers"
]  # fmt: skip


@dataclass(frozen=True)
class Backend:
    """A way to compute attention."""

    #: what diffusers calls it
    diffusers: str
    #: what has to be installed for it: (module, how to get it)
    package: tuple[str, str] | None = None
    gpu: bool = False
    #: whether it differs from the others by rounding alone, and whether it has a backward pass
    exact: bool = True
    learns: bool = True


#: the first five are torch's own
BACKENDS: dict[str, Backend] = {
    "native": Backend("native"),
    "flash": Backend("_native_flash"),
    "efficient": Backend("_native_efficient", gpu=True),
    "cudnn": Backend("_native_cudnn", gpu=True),
    "math": Backend("_native_math"),
    "flash_attn": Backend("flash", ("flash_attn", "pip install flash-attn"), gpu=True),
    "flash_attn_3": Backend("_flash_3", ("flash_attn_interface", "build FlashAttention 3 from its sources"), gpu=True),
    "sage": Backend("sage", ("sageattention", "pip install sageattention"), gpu=True, exact=False, learns=False),
    "xformers": Backend("xformers", ("xformers", "pip install xformers"), gpu=True),
}


def alias(name: object) -> object:
    """``sdpa`` is torch's own choice."""
    return "native" if name == "sdpa" else name


@dataclass(frozen=True)
class Speed:
    """What is asked for; as it is made, nothing."""

    #: of :data:`BACKENDS`
    attention: Attention = "native"
    #: compile the blocks that repeat (``torch.compile``)
    compile: bool = False
    #: keep the weights of linear layers in fp8, and widen each where it is used
    fp8: bool = False

    @property
    def counts(self) -> dict[str, str | bool]:
        """What of it changes the result by more than rounding; empty where nothing does."""
        found: dict[str, str | bool] = {} if BACKENDS[self.attention].exact else {"attention": self.attention}
        return found | ({"fp8": True} if self.fp8 else {})

    @property
    def words(self) -> list[str]:
        """What is asked for, for people."""
        found = [] if self.attention == "native" else [f"attention {self.attention}"]
        return found + ["compiled"] * self.compile + ["weights in fp8"] * self.fp8
