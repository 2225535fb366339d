"""The card of a trained LoRA: what it was trained on, by whose judgement, from which model, and at what cost."""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ipa_bench import __version__
from ipa_bench.models.checkpoint import LORA_FILE
from ipa_bench.store import write_atomic
from ipa_bench.video import file_sha256
from trainers.loop import LOG
from trainers.policy import Policy, trainable_size

if TYPE_CHECKING:
    from trainers.train import Job

LORA_FOLDER = "lora"
JSON_NAME, TEXT_NAME = "card.json", "README.md"
PACKAGES = ("torch", "diffusers", "peft", "accelerate", "transformers")


@dataclass(frozen=True)
class Meter:
    """Time since it was made."""

    begin: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Wall time, in seconds."""
        return time.monotonic() - self.begin


def write(job: Job, policy: Policy, out: Path, meter: Meter, processes: int) -> None:
    """Write ``card.json`` and ``README.md`` beside the LoRA. The JSON is the sign that a run is complete."""
    folder = out / LORA_FOLDER
    about = describe(job, policy, out, meter, processes)
    write_atomic(folder / TEXT_NAME, text(about).encode())
    write_atomic(folder / JSON_NAME, json.dumps(about, indent=1, allow_nan=False).encode() + b"\n")


def describe(job: Job, policy: Policy, out: Path, meter: Meter, processes: int) -> dict[str, Any]:
    """Everything that a user of a LoRA should know of it, as JSON values."""
    lora = out / LORA_FOLDER / LORA_FILE
    seconds = [entry["seconds"] for entry in _lines(out / LOG)]
    # A resumed run's clock begins anew: the durations of all its parts add up.
    total = sum(a for a, b in zip(seconds, [*seconds[1:], 0.0], strict=True) if b < a)
    data = job.data
    cuda = torch.cuda.is_available()
    return {
        "run": job.key,
        "method": job.method,
        "base": {"model": job.config.model.model, "identity": job.checkpoint.identity},
        "reference": policy.reference_is if job.method != "sft" else "none: SFT has no reference",
        "sha256": file_sha256(lora) if lora.is_file() else None,
        "trained_values": trainable_size(policy.parameters),
        "config": job.config.model_dump(mode="json"),
        "data": {
            "clips": len(data.all),
            "pairs": len(data.bad) or None,
            "candidates": data.candidates,
            "identities": len({clip.case.identity or clip.case.id for clip in data.all}),
            "latents_kept": sum(clip.latents is not None for clip in data.all),
            "chosen_by": list(data.by),
        },
        "cost": {
            "train_seconds": round(total, 1),
            "processes": processes,
            "device": torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads",
            "peak_memory_gb": round(_peak() / 1e9, 3),
            "last_part_seconds": round(meter.seconds(), 1),
        },
        "versions": {name: version(name) for name in PACKAGES}
        | {"ipa-bench": __version__, "python": platform.python_version()},
    }


def text(about: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    data, cost, config = about["data"], about["cost"], about["config"]
    loss, adapter, train = config["loss"], config["adapter"], config["train"]
    rows = {
        "method": about["method"],
        "base": f"`{about['base']['model']}` ({about['base']['identity'][:23]})",
        "reference": about["reference"],
        "clips": f"{data['clips']} self-generated, of {data['identities']} identities"
        + (f", chosen from {data['candidates']}" if data["candidates"] else "")
        + (f", {data['pairs']} pairs" if data["pairs"] else ""),
        "chosen by": ", ".join(data["chosen_by"]) + " (no evidence for this model: use the other metrics)"
        if data["chosen_by"]
        else "no metric: as they came",
        "loss": f"beta {loss['beta']:g}, time weight {loss['time_weight']}, hands x{loss['hand_weight']:g} "
        f"({loss['hand_form']}, mask {config['data']['mask']})",
        "adapter": "full fine-tuning"
        if adapter["full"]
        else f"rank {adapter['rank']}, {adapter['layers']}, {adapter['blocks']} blocks"
        + (f", the change applied {adapter['strength']:g} times" if adapter["strength"] != 1 else ""),
        "training": f"{train['steps']} updates of {train['batch']}, lr {train['lr']:g}, seed {train['seed']}, "
        f"{train['precision']}",
        "cost": f"{cost['train_seconds']:.0f} s on {cost['processes']} x {cost['device']}, "
        f"peak {cost['peak_memory_gb']:.2f} GB",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        f"# A LoRA trained by {about['method']} with ipa-bench\n\n| | |\n|---|---|\n{table}\n\n"
        f"```python\npipe.load_lora_weights(folder, weight_name={LORA_FILE!r})\n```\n\n"
        "Everything else: `card.json`.\n"
    )


def _peak() -> int:
    """Largest memory in bytes: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    scale = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
