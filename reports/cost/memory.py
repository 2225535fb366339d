"""Peak host memory of each process that trains, with weights whole and divided, on one, two and four processes.

    python reports/cost/memory.py            # on a processor; gloo; random weights of 43 million parameters in fp32

Every process is forked from one that has imported everything, and says how far its resident memory rose above where
it began: at its highest while the model was made (each makes it whole and lets go of what is others'), in updates, and
when a state was saved, which one process does.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import WanTransformer3DModel

from ipa_bench.models.wan.phantom import Phantom
from trainers.config import AdapterConfig, TrainTable
from trainers.loop import Items, Loop
from trainers.policy import FullPolicy, LoraPolicy, Policy
from trainers.shard import Sharded

SHAPE: dict[str, Any] = {
    "num_attention_heads": 8, "attention_head_dim": 64, "in_channels": 16, "out_channels": 16, "text_dim": 64,
    "freq_dim": 64, "ffn_dim": 2048, "num_layers": 10, "rope_max_seq_len": 64,
}  # fmt: skip
MB = 1 << 20
#: of glibc: larger pieces of memory are the system's again as soon as they are let go
_KEPT = "MALLOC_MMAP_THRESHOLD_"


class _Pipe:
    """As much of a pipeline as an update needs."""

    _execution_device = "cpu"

    def __init__(self) -> None:
        self.transformer = WanTransformer3DModel(**SHAPE)


class _Enough(Exception):
    """As many updates as were asked for, and none is saved."""


def resident(key: str) -> int:
    """Of this process, in bytes: ``VmRSS`` now, ``VmHWM`` at most since :func:`forget`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))


def forget() -> None:
    """The highest is what it is now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def work(kind: str, *, shard: bool, folder: Path) -> dict[str, int]:
    """What one process does: makes the model, and takes three updates."""
    torch.set_num_threads(1)
    accelerator: Any = Accelerator(cpu=True)
    forget()
    began = resident("VmRSS")
    base = Phantom(_Pipe())
    full, adapter = kind == "full", AdapterConfig(rank=16)
    policy: Policy = FullPolicy(base, later=shard) if full else LoraPolicy(base, adapter, None, 0)
    policy.checkpoint_gradients()
    policy.train()
    if shard:
        Sharded(base)
        policy.begin()
    making = resident("VmHWM") - began
    forget()
    table = TrainTable(steps=99, batch=accelerator.num_processes, lr=1e-4, warmup=0, precision="fp32", save_every=99)
    loop = Loop(table, policy, Items(tuple("abcd"), 0, 0), folder, "memory", accelerator)
    given = {"people": torch.zeros(1, 16, 1, 4, 4), "prompt": torch.randn(1, 8, 64)}

    def loss(index: Any, _: Any) -> Any:
        z, t = torch.randn(1, 16, 3, 4, 4), torch.full((1,), 0.1 + 0.2 * index[0])
        made = base.velocity(z, t, given)
        with policy.reference():
            before = base.velocity(z, t, given)
        return (made - before - z).square().mean(), {}

    def tell(step: int, *_: object) -> None:
        if step == 2:
            raise _Enough

    with suppress(_Enough):
        loop.run(loss, tell=tell)
    training = resident("VmHWM") - began
    forget()
    loop.run(loss, stop_after=3)
    return {"making": making, "updates": training, "saving": resident("VmHWM") - began}


def measured(kind: str, *, shard: bool, count: int) -> list[dict[str, int]]:
    """What each of ``count`` processes says."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(count):
            child = os.fork()
            if child == 0:
                os.environ |= {
                    "WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "1",
                }  # fmt: skip
                said = work(kind, shard=shard and count > 1, folder=Path(folder))
                (Path(folder) / f"{rank}.json").write_text(json.dumps(said))
                os._exit(0)
            children.append(child)
        if any(os.waitpid(child, 0)[1] for child in children):
            sys.exit(f"{kind} on {count} processes failed")
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(count)]


def main() -> None:
    """Print a table."""
    if _KEPT not in os.environ:  # else malloc keeps what is let go in a heap that only grows
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, _KEPT: "65536"})
    warnings.simplefilter("ignore")
    print(
        "| trained | weights | processes | making the model, MB | updates, MB | saving, MB |\n|---|---|---|---|---|---|"
    )
    for kind in ("lora", "full"):
        for shard, count in ((False, 1), (False, 2), (True, 2), (True, 4)):
            said = measured(kind, shard=shard, count=count)
            most = {key: max(each[key] for each in said) // MB for key in said[0]}
            row = (kind, "divided" if shard else "whole", count, *most.values())
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
