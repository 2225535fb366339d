"""FLOPs counted while work runs, by torch's own formulas of its operations: the oracle of ours."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Hashable
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
    """Do the work and count its FLOPs by ``torch.utils.flop_counter``'s formulas, backward passes and recomputation
    included.

    With a ``key`` it is counted once: later work of the same key runs as it is and has the first one's count. The key
    names all that decides it: what is done, every shape, and what is trained. Counting slows small operations down.
    Torch's counter leaves out attention on a CPU; here it has the same formula as on a GPU.
    """
    if key is not None and key in _KNOWN:
        return Counted(work(), _KNOWN[key])
    with _counter() as counter:
        result = work()
    lacking = sorted(map(str, counter.lacking))
    flops = Amount(reason=f"no formula for {', '.join(lacking)}") if lacking else Amount(counter.total)
    if key is not None:
        _KNOWN[key] = flops
    return Counted(result, flops)


@functools.cache
def _heavy(operation: Any) -> bool:
    return _HEAVY.search(str(operation).rpartition(".")[2]) is not None


@functools.cache
def _formulas() -> dict[Any, Any]:
    import torch
    from torch.utils import flop_counter

    aten, known = torch.ops.aten, cast(Any, flop_counter)
    on_cpu: dict[Any, Any] = {
        aten._scaled_dot_product_flash_attention_for_cpu: (
            lambda query, key, value, *_, **__: known.sdpa_flop_count(query, key, value)
        ),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda grad, query, key, value, *_, **__: known.sdpa_backward_flop_count(grad, query, key, value)
        ),
    }
    return {**known.flop_registry, **{op: known.shape_wrapper(formula) for op, formula in on_cpu.items()}}


def _counter() -> Any:
    """Torch's formulas at every operation: as its ``FlopCounterMode``, which asks in which module an operation is and
    what it is made of, and takes three times as long."""
    from torch.utils._python_dispatch import TorchDispatchMode

    formulas = _formulas()

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        total = 0

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.lacking: set[Any] = set()

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            operation = getattr(function, "_overloadpacket", function)
            formula = formulas.get(operation)
            if formula is not None:
                self.total += formula(*args, **(kwargs or {}), out_val=out)
            elif _heavy(operation):
                self.lacking.add(operation)
            return out

    return Counter()
