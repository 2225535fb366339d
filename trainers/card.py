"""The card of a trained LoRA: what it was trained on, by whose judgement, from which model, and at what cost."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ipa_bench import __version__
from ipa_bench.cost import Cost
from ipa_bench.cost import ledger as cost_ledger
from ipa_bench.files import LORA_FILE, write_atomic
from ipa_bench.metrics.table import no_evidence
from ipa_bench.models.checkpoint import lora_sha256, second_lora
from trainers import hub, watch
from trainers.methods import find
from trainers.policy import Policy, trainable_size
from trainers.rollouts.log import summary

if TYPE_CHECKING:
    from trainers.job import Job

LORA_FOLDER = "lora"
JSON_NAME, TEXT_NAME = "card.json", "README.md"
PACKAGES = ("torch", "diffusers", "peft", "accelerate", "transformers")


def write(job: Job, policy: Policy, out: Path, processes: int) -> None:
    """Write ``card.json`` and ``README.md`` beside the LoRA. The JSON is the sign that a run is complete."""
    folder = out / LORA_FOLDER
    cost = cost_ledger.read(out).total
    about = describe(job, policy, out, cost or Cost(), processes)
    # What the LoRA that training continued from took is a part of it, and without that nobody knows the whole.
    before = Cost() if job.start is None else cost_ledger.beside_lora(job.start)
    cost_ledger.write_beside_lora(folder, None if cost is None or before is None else before.merge(cost))
    write_atomic(folder / TEXT_NAME, text(about).encode())
    write_atomic(folder / JSON_NAME, json.dumps(about, indent=1, allow_nan=False).encode() + b"\n")


def describe(job: Job, policy: Policy, out: Path, cost: Cost, processes: int) -> dict[str, Any]:
    """Everything that a user of a LoRA should know of it, as JSON values."""
    lora = out / LORA_FOLDER / LORA_FILE
    data, method = job.data, find(job.method)
    train = cost.phase("train")
    peak = None if train is None else train.memory.value
    threads = "" if torch.cuda.is_available() else f", {torch.get_num_threads()} threads"
    return {
        "run": job.key,
        "method": job.method,
        "base": {
            "model": job.config.model.model,
            "identity": job.checkpoint.identity,
            **({"weights": others} if (others := [str(file) for file in _weights(job)]) else {}),
        },
        "reference": policy.reference_is
        if method.reference or (job.options is not None and job.options.reference)
        else f"none: {method.title} has no reference",
        "sha256": lora_sha256(lora) if lora.is_file() else None,
        **({"networks": len(policy.networks)} if len(policy.networks) > 1 else {}),
        "trained_values": trainable_size(policy.parameters),
        "config": job.config.model_dump(mode="json", exclude={"methods", *job.config.unused}),
        **_options(job),
        **({} if policy.adapter is None else {"adapter": policy.adapter}),
        "data": {
            "clips": len(data.all),
            "pairs": len(data.bad) or None,
            "candidates": data.candidates,
            "identities": len({case.identity or case.id for case in data.cases}),
            "latents_kept": sum(clip.latents is not None for clip in data.all),
            "chosen_by": list(data.by),
            "no_evidence": list(no_evidence(data.by)),
            **({"rollouts": summary(out)} if data.online else {}),
        },
        **_measured(job, out),
        "cost": {
            "train_seconds": None if train is None else round(train.seconds, 1),
            "processes": processes,
            "device": None if train is None else ", ".join(train.devices) + threads,
            "peak_memory_gb": None if peak is None else round(peak / 1e9, 3),
            "energy_joules": None if train is None else train.energy.value,
            "share_of_matmul_peak": None if train is None else train.peak_share.value,
        },
        "versions": {name: version(name) for name in PACKAGES}
        | {"ipa-bench": __version__, "python": platform.python_version()},
    }


def _weights(job: Job) -> list[Path]:
    """Files that transformers were read from in place of the checkpoint's own."""
    return [file for file in (job.spec.weights, job.spec.weights_2) if file is not None]


def text(about: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    data, cost, config = about["data"], about["cost"], about["config"]
    loss, train, options = config["loss"], config["train"], about.get("options")
    rows = {
        "method": about["method"]
        + (f" ({', '.join(f'{key} {value}' for key, value in options.items())})" if options else ""),
        "base": f"`{about['base']['model']}`"
        + "".join(f", weights `{file}`" for file in about["base"].get("weights", ()))
        + f" ({about['base']['identity'][:23]})",
        "reference": about["reference"],
        "clips": _clips(data)
        + (f", chosen from {data['candidates']}" if data["candidates"] else "")
        + (f", {data['pairs']} pairs" if data["pairs"] else ""),
        ("rewarded by" if "rollouts" in data else "chosen by"): ", ".join(data["chosen_by"])
        + f" (no evidence for this model{_beside(data)}: use the other metrics)"
        if data["chosen_by"]
        else "no metric: as they came",
        "loss": "on the sampler's steps"
        if find(about["method"]).takes == "steps"
        else f"beta {loss['beta']:g}, time weight {loss['time_weight']}, hands x{loss['hand_weight']:g} "
        f"({loss['hand_form']}, mask {config['data']['mask']})",
        "adapter": _adapter(about),
        "training": f"{train['steps']} updates of {train['batch']}, lr {train['lr']:g}, seed {train['seed']}, "
        f"{train['precision']}",
        "cost": "not measured"
        if cost["train_seconds"] is None
        else f"{cost['train_seconds']:.0f} s on {cost['processes']} x {cost['device']}, "
        f"peak {'not measured' if cost['peak_memory_gb'] is None else format(cost['peak_memory_gb'], '.2f') + ' GB'}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return hub.front_matter(about) + (
        f"# A LoRA trained by {about['method']} with ipa-bench\n\n| | |\n|---|---|\n{table}\n\n"
        f"```python\n{_loading(about)}\n```\n\n"
        "Everything else: `card.json`.\n"
    )


def _loading(about: Mapping[str, Any]) -> str:
    """What a plain diffusers script says; experts have a file each."""
    first = f"pipe.load_lora_weights(folder, weight_name={LORA_FILE!r})"
    if about.get("networks", 1) == 1:
        return first
    second = second_lora(Path(LORA_FILE)).name
    return f"{first}\npipe.load_lora_weights(folder, weight_name={second!r}, load_into_transformer_2=True)"


def _clips(data: Mapping[str, Any]) -> str:
    """Which clips were trained on."""
    rounds = data.get("rollouts")
    if rounds is None:
        return f"{data['clips']} self-generated, of {data['identities']} identities"
    return f"{rounds['clips']} of its own in {rounds['rounds']} rounds, of {data['identities']} identities"


def _beside(data: Mapping[str, Any]) -> str:
    """The metrics that look through the same networks as those that chose."""
    others = [metric for metric in data["no_evidence"] if metric not in data["chosen_by"]]
    return f", nor are {', '.join(others)}, which look through the same networks" if others else ""


def _adapter(about: Mapping[str, Any]) -> str:
    """What is trained: by the configuration, or by the LoRA that training continued from."""
    adapter, given = about["config"]["adapter"], about.get("adapter")
    if adapter["full"]:
        return "full fine-tuning"
    times = f", the change applied {adapter['strength']:g} times" if adapter["strength"] != 1 else ""
    if given is None:
        return f"rank {adapter['rank']}, {adapter['layers']}, {adapter['blocks']} blocks{times}"
    ranks = " and ".join(str(rank) for rank in given["ranks"])
    left = f" ({given['left_out']:.2%} of it left out to keep the rank)" if given["left_out"] else ""
    return (
        f"of {given['continues']}: rank {ranks}, {given['layers']} layers, dropout {given['dropout']:g}{times}{left}; "
        "rank, alpha, dropout, layers and blocks of the configuration do not count"
    )


def _measured(job: Job, out: Path) -> dict[str, Any]:
    """What the last look at held-out cases found: the mean of each metric. Nothing where no samples were looked at."""
    line = watch.last(out)
    scores = {metric: rows for metric, rows in (line or {}).get("scores", {}).items() if rows}
    if not scores:
        return {}
    shown = {row[0] for rows in scores.values() for row in rows}
    people = {case.identity or case.id for case in job.watched if case.id in shown}
    means = {metric: sum(row[2] for row in rows) / len(rows) for metric, rows in scores.items()}
    assert line is not None
    return {"measured": {"step": line["step"], "cases": len(shown), "identities": len(people), "metrics": means}}


def _options(job: Job) -> dict[str, Any]:
    """The method's own keys. Clips and pairs are trained on as published where none of these is changed."""
    if job.options is None or not (find(job.method).online or job.options.model_dump(exclude_defaults=True)):
        return {}
    return {"options": job.options.model_dump(mode="json")}
