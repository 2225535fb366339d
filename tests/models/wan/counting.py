"""FLOPs counted while work runs, by ``torch.utils.flop_counter``: the oracle of the formulas."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from ipa_bench.cost import Amount

T = TypeVar("T")
#: operations of these names do much arithmetic: one that torch has no formula for leaves a count unknown
_HEAVY = re.compile(r"(^|_)(conv|linear|(add|b|baddb)?mm(_|$)|matmul|einsum|lstm|gru)|attention|attn", re.IGNORECASE)


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
    counter.mod_tracker = _Everywhere()
    with _operations() as seen, counter:
        result = work()
    lacking = sorted(
        str(op) for op in seen if op not in counter.flop_registry and _HEAVY.search(str(op).rpartition(".")[2])
    )
    flops = Amount(reason=f"no formula for {', '.join(lacking)}") if lacking else Amount(counter.get_total_flops())
    if key is not None:
        _KNOWN[key] = flops
    return Counted(result, flops)


class _Everywhere:
    """In the place of what follows which module is at work: only the sum of all is asked for, and that takes long."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


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
