"""What reports/embedded/README.md states: curves of pretraining, pictures, and figures of world, VAE and base model.

    python reports/embedded/make.py --pretrain runs/pretrain --seeds runs/seeds
    python reports/embedded/make.py --gates runs/pretrain

``--pretrain``: the folder of ``trainers.embedded.pretrain``; ``--seeds``: a run of the embedded suite with many seeds.
Writes curves.png, world.png, vae.png, base.png and figures.json beside this file. ``--gates`` alone: gates.png and
gates.jsonl, the flow errors on held-out people as pretraining went on.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from ipa_bench import video
from ipa_bench.embedded import cases, world
from ipa_bench.models.checkpoint import EMBEDDED_FOLDER
from ipa_bench.observers.hands import HandObserver
from ipa_bench.store import RunStore

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TEST_PEOPLE = 30


def main() -> None:
    """Make every part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pretrain", type=Path)
    parser.add_argument("--seeds", type=Path)
    parser.add_argument("--gates", type=Path)
    options = parser.parse_args()
    if options.gates:
        gates(options.gates)
        return
    path = HERE / "figures.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if options.pretrain:
        curves(options.pretrain)
    Image.fromarray(np.concatenate(list(cases.contact_sheet("test", 8)))).save(HERE / "world.png", optimize=True)
    figures |= world_and_vae()
    if options.seeds:
        figures["base"] = base(options.seeds)
    path.write_text(json.dumps(figures, indent=1) + "\n")
    print(path.read_text())


def curves(folder: Path) -> None:
    """Loss over steps of both stages, and the autoencoder's PSNR; medians of 25 steps."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3), layout="constrained")
    for axis, (stage, key) in zip(axes, (("vae", "loss"), ("vae", "psnr"), ("transformer", "loss")), strict=True):
        lines = [json.loads(line) for line in (folder / f"{stage}.jsonl").read_text().splitlines()]
        values = np.array([line[key] for line in lines])
        count = len(values) // 25
        axis.plot(np.arange(count) * 25, np.median(values[: count * 25].reshape(count, 25), axis=1), lw=1)
        axis.set(title=f"{stage}: {key}", xlabel="step")
        axis.grid(alpha=0.3)
    figure.savefig(HERE / "curves.png", dpi=90)
    for stage in ("vae", "transformer"):
        lines = (folder / f"{stage}.jsonl").read_text().splitlines(keepends=True)
        (HERE / f"{stage}.jsonl").write_text("".join(lines[:50] + lines[50::20]))


def gates(folder: Path) -> None:
    """Errors of the velocity on held-out people over updates, a panel for each kind of sample."""
    text = (folder / "transformer-watch.jsonl").read_text()
    (HERE / "gates.jsonl").write_text(text)
    lines = [json.loads(line) for line in text.splitlines()]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained", sharey=True)
    for axis, kind in zip(axes, ("stills", "clips", "pairs"), strict=True):
        shown = [line for line in lines if f"{kind} hand@0.6" in line]
        for name, style in (("hand@0.3", ":"), ("hand@0.6", "-"), ("hand@0.9", "--"), ("frame@0.6", "-.")):
            axis.plot([line["step"] for line in shown], [line[f"{kind} {name}"] for line in shown], style, label=name)
        axis.axhline(0.5, color="grey", lw=0.8)
        axis.set(title=kind, xlabel="update", ylim=(0, 1.05))
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(HERE / "gates.png", dpi=90)
    plt.close(figure)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Decibels between two uint8 clips, over all values."""
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def world_and_vae() -> dict[str, Any]:
    """The observer on rendered frames against exact joints, and on reconstructions of them."""
    from diffusers import AutoencoderKLWan

    vae: Any = AutoencoderKLWan.from_pretrained(EMBEDDED_FOLDER, subfolder="vae", dtype=torch.float32)
    observer = HandObserver(threads=2)
    seen: dict[str, list[Any]] = defaultdict(list)
    rows = []
    for identity in range(TEST_PEOPLE):
        clip = world.clip("test", identity, 0)
        pixels = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        with torch.inference_mode():
            made = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        again = ((made[0].permute(1, 2, 3, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
        seen["psnr"].append(psnr(again, clip.frames))
        for name, frames in (("world", clip.frames), ("vae", again)):
            tracks = observer.observe(frames, np.arange(len(frames)) / clip.fps, name)
            size = np.median(np.ptp(clip.joints[..., :2], axis=2).max(-1), axis=0)
            distance = np.linalg.norm(tracks.landmarks[:, None] - clip.joints[:, :, None, :, :2], axis=-1).mean(-1)
            distance = np.where(tracks.found[:, None], distance / size[None, :, None], np.inf).min(-1)
            seen[f"{name}.found"].append(distance < 1)
            seen[f"{name}.error"].extend(distance[distance < 1])
        if identity < 6:
            rows.append(np.concatenate([picture for t in (0, 8, 16) for picture in (clip.frames[t], again[t])], 1))
    Image.fromarray(np.concatenate(rows)).save(HERE / "vae.png", optimize=True)
    recall = {name: float(np.mean(seen[f"{name}.found"])) for name in ("world", "vae")}
    return {
        "world": {
            "frames": TEST_PEOPLE * world.FRAMES,
            "hand.recall": recall["world"],
            "hand.keypoint_error, median": float(np.median(seen["world.error"])),
        },
        "vae": {
            "psnr": float(np.mean(seen["psnr"])),
            "psnr, lowest clip": float(np.min(seen["psnr"])),
            "hand.recall": recall["vae"],
            "hand.recall over that of the originals": recall["vae"] / recall["world"],
        },
    }


def base(folder: Path) -> dict[str, Any]:
    """Means and within-case spread of each model of a run with many seeds, and a sheet of its clips."""
    store = RunStore.load(folder)
    scores: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in store.scores():
        if score.value is not None and "/" not in score.model:
            scores[score.model, score.metric][score.case].append(score.value)
    result: dict[str, Any] = {"cases": len(store.header.cases), "seeds": len(store.header.seeds)}
    for model in (entry.name for entry in store.header.models):
        figures: dict[str, float] = {}
        for metric in ("frame.psnr@1", "hand.recall@1", "hand.keypoint_error@1", "hand_quality@1"):
            by_case = list(scores[model, metric].values())
            figures[metric] = float(np.mean([np.mean(values) for values in by_case]))
            if len(store.header.seeds) > 1:
                spread = [np.std(values, ddof=1) / np.mean(values) for values in by_case if np.mean(values) > 0]
                figures[f"{metric}, within-case CV, median"] = float(np.median(spread))
        result[model] = figures
    _sheet(store)
    return result


def _sheet(store: RunStore) -> None:
    """Rows: driving clip, pose map, then seeds of the first generative model; eighth and last frame of six cases."""
    model = next(entry.name for entry in store.header.models if entry.kind == "wan_vace")
    rows = []
    for case in store.header.cases[:6]:
        driving = Path(case.driving)
        clips = [driving, driving.parents[1] / "pose" / driving.name]
        records = store.records()
        clips += [
            Path(str(records[case.id, seed, model].video))
            for seed in store.header.seeds[:5]
            if (case.id, seed, model) in records
        ]
        frames = [[frame.image for frame in video.read_frames(clip)] for clip in clips]
        rows.append(np.concatenate([clip[t] for t in (8, 16) for clip in frames], 1))
    Image.fromarray(np.concatenate(rows)).save(HERE / "base.png", optimize=True)


if __name__ == "__main__":
    main()
