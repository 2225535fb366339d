"""A small made-up run with everything a report shows.

Its hands are drawn, so their joints are known exactly, and a picture tells whether an overlay lies where it should.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ipa_bench import video
from ipa_bench.compare import leaderboard
from ipa_bench.report.view import ReportView
from ipa_bench.store import CaseEntry, Details, ModelEntry, RunHeader, Unit, UnitRecord
from ipa_bench.types import Float32, Leaderboard, MetricInfo, Score, UInt8

WIDTH, HEIGHT = 320, 240
SECONDS = 1.6
SKIN = ((224, 172, 140), (141, 85, 54), (247, 211, 190))

METRICS = (
    MetricInfo("hand.keypoint_error@1", "hand sizes", "lower", "AKD per hand size", "extra fingers", has_floor=True),
    MetricInfo("hand.pck10@1", "fraction", "higher", "HaMeR, SmoothNet", "a sixth finger", has_floor=True),
    MetricInfo("hand.recall@1", "fraction", "higher", "FOMM's MKR", "the shape of the hand it finds"),
    MetricInfo("hand.jitter@1", "|log ratio|", "lower", "TransPose, two-sided", "slow drift", has_floor=True),
    MetricInfo("hand.sharpness@1", "|log ratio|", "lower", "Laplacian energy", "sharp but wrong", "ground_truth"),
    MetricInfo("rest.psnr@1", "dB", "higher", "PSNR outside the hands", "structure", "ground_truth"),
    MetricInfo("frame.ssim@1", "1", "higher", "Wang et al. 2004", "small regions", "ground_truth"),
    MetricInfo("frame.lpips@1", "1", "lower", "Zhang et al. 2018", "time", "ground_truth"),
)  # fmt: skip
FLOORS = {"hand.keypoint_error@1": 0.012, "hand.pck10@1": 0.02, "hand.jitter@1": 0.05}
#: model -> (fps, seconds, error of the hands); what the made-up models are like
MODELS = {"base": (25.0, 1.6, 0.09), "tuned": (25.0, 1.6, 0.035), "sixteen fps": (16.0, 1.25, 0.06)}


@dataclass(frozen=True)
class Look:
    """How one video is made."""

    fps: float
    seconds: float
    #: standard deviation of the joints, in hand sizes
    error: float
    seed: int


def joints(time: float, who: int) -> Float32:
    """float32 ``[2, 21, 2]`` in [0, 1]: two open hands that wave and curl."""
    hands = np.zeros((2, 21, 2))
    for slot in (0, 1):
        side = -1 if slot else 1
        wave = math.sin(2 * math.pi * (0.5 + 0.13 * who) * time + slot)
        wrist = np.array([0.5 + side * (0.2 + 0.03 * wave), 0.72 - 0.06 * wave])
        hands[slot, 0] = wrist
        for finger in range(5):
            angle = side * (finger - 2) * 0.3 + 0.25 * wave
            curl = 0.82 + 0.18 * math.sin(3 * time + finger)
            for joint in range(4):
                reach = (0.13 if finger else 0.06) + 0.055 * joint * curl
                hands[slot, 1 + 4 * finger + joint] = wrist + reach * np.array(
                    [math.sin(angle) * 0.75, -math.cos(angle)]
                )
    return hands.astype(np.float32)


def draw(hands: Float32, shown: Sequence[bool], who: int, size: tuple[int, int]) -> UInt8:
    """A frame: a background of the person's own, and the hands in skin colour."""
    picture = Image.new("RGB", size, (70 + 40 * (who % 3), 92, 120 - 20 * (who % 3)))
    pen = ImageDraw.Draw(picture)
    pen.ellipse([size[0] * 0.38, size[1] * 0.06, size[0] * 0.62, size[1] * 0.44], fill=SKIN[who % 3])
    pen.rectangle([size[0] * 0.28, size[1] * 0.5, size[0] * 0.72, size[1]], fill=(60, 66 + 30 * (who % 4), 90))
    for hand, there in zip(hands, shown, strict=True):
        if not there:
            continue
        points = [(float(x) * size[0], float(y) * size[1]) for x, y in hand]
        for finger in range(5):
            chain = [points[0], *points[1 + 4 * finger : 5 + 4 * finger]]
            pen.line(chain, fill=SKIN[who % 3], width=max(5, size[0] // 28), joint="curve")
        pen.polygon([points[0], points[5], points[9], points[13], points[17]], fill=SKIN[who % 3])
    return np.array(picture)


def make_video(path: Path, look: Look, who: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> tuple[Float32, np.ndarray]:
    """Write a clip; return the joints that were drawn ``[T, 2, 21, 2]`` and which hands were ``[T, 2]``."""
    rng = np.random.default_rng(look.seed)
    count = round(look.fps * look.seconds)
    clean = np.stack([joints(index / look.fps, who) for index in range(count)])
    drawn = (clean + rng.normal(0, look.error * 0.25, clean.shape)).astype(np.float32)
    shown = rng.random((count, 2)) > look.error
    path.parent.mkdir(parents=True, exist_ok=True)
    video.encode(
        (draw(hands, there, who, size) for hands, there in zip(drawn, shown, strict=True)),
        path,
        look.fps,
        preset="ultrafast",
    )
    return drawn, shown


def details_of(drawn: Float32, shown: np.ndarray, look: Look, who: int) -> Details:
    """What an observer would have seen of such a clip, beside the clean driving hands."""
    times = np.arange(len(drawn)) / look.fps
    driving = np.stack([joints(float(time), who) for time in times])
    error = np.linalg.norm(drawn - driving, axis=-1).mean(axis=2) / 0.3
    error = np.where(shown, error, np.nan)
    with np.errstate(invalid="ignore"):
        per_frame = np.array([np.mean(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in error])
    return Details(
        times=times.astype(np.float64),
        fps=look.fps,
        size=(WIDTH, HEIGHT),
        generated_landmarks=drawn,
        generated_found=shown,
        driving_landmarks=driving,
        driving_found=np.ones_like(shown),
        series={
            "hand.keypoint_error@1": per_frame.astype(np.float32),
            "hand.pck10@1": np.where(np.isnan(per_frame), 0, np.clip(1.2 - 3 * per_frame, 0, 1)).astype(np.float32),
            "hand.confidence@1": shown.mean(axis=1).astype(np.float32),
        },
    )


def scores_of(unit: Unit, look: Look, rng: np.random.Generator) -> tuple[Score, ...]:
    """Made-up numbers that go with how good the clip is; LPIPS lacks its weights."""
    noise = rng.normal(0, 0.12)
    error = look.error * (1 + noise)
    values = {
        "hand.keypoint_error@1": error,
        "hand.pck10@1": 1 - 3 * error,
        "hand.recall@1": 1 - error,
        "hand.jitter@1": 4 * error + 0.1,
        "hand.sharpness@1": abs(noise),
        "rest.psnr@1": 31 + noise * 8 - 10 * error,
        "frame.ssim@1": 0.9 - error / 2,
    }
    missing = "weights alexnet are missing: ipa-bench weights fetch alexnet"
    return (
        *(Score(*unit, metric=metric, value=float(value)) for metric, value in values.items()),
        Score(*unit, metric="frame.lpips@1", reason=missing),
    )


def make_run(
    folder: Path,
    *,
    models: Mapping[str, tuple[float, float, float]] = MODELS,
    identities: int = 6,
    seeds: tuple[int, ...] = (0,),
    names: Mapping[str, str] | None = None,
    videos: bool = True,
    trained_on: Mapping[str, tuple[str, ...]] | None = None,
) -> ReportView:
    """A run in ``folder``. ``names`` renames cases and models (to hostile ones, say); files keep harmless names.

    Without ``videos`` the records name files that nobody wrote, and there are no details.
    """
    names, trained_on = names or {}, trained_on or {}
    records: dict[Unit, UnitRecord] = {}
    kept: dict[Unit, Details] = {}
    cases = []
    for who in range(identities):
        case = names.get(f"wave_{who}", f"wave_{who}")
        driving = folder / "clips" / f"driving_{who}.mp4"
        if videos:
            make_video(driving, Look(25.0, SECONDS, 0.0, 0), who)
        cases.append(CaseEntry(case, f"person {who}", "test", str(driving), str(driving)))
        for seed in seeds:
            for place, (plain, (fps, seconds, error)) in enumerate(models.items()):
                unit = (case, seed, names.get(plain, plain))
                look = Look(fps, seconds, error * (0.8 + 0.08 * who), 1000 * who + 10 * seed + place)
                path = folder / "videos" / f"{who}_{seed}_{place}.mp4"
                if videos:
                    kept[unit] = details_of(*make_video(path, look, who), look, who)
                scores = scores_of(unit, look, np.random.default_rng(look.seed))
                digest = hashlib.sha256(str(look).encode()).hexdigest()
                records[unit] = UnitRecord(*unit, str(path), digest, 12.5, (), scores)
    header = RunHeader(
        name=names.get("run", "Hands after post-training"),
        suite_hash="4f0c" * 16,
        primary="hand.keypoint_error@1",
        seeds=seeds,
        metrics=tuple(info.id for info in METRICS),
        cases=tuple(cases),
        models=tuple(
            ModelEntry(names.get(plain, plain), "folder", f"videos/{plain}", trained_on.get(plain, ()))
            for plain in models
        ),
        environment={"python": "3.11", "torch": "2.13.0", "platform": "Linux x86_64"},
        tool_version="0.1.0",
        created="2026-09-01T12:00:00+00:00",
    )
    return with_records(ReportView(header, Leaderboard("", (), (), ()), records, METRICS, FLOORS, kept.get))


def with_records(view: ReportView, records: Mapping[Unit, UnitRecord] | None = None) -> ReportView:
    """``view`` with other records and the leaderboard that goes with them."""
    records = view.records if records is None else records
    header = view.header
    board = leaderboard(
        [score for record in records.values() for score in record.scores],
        identity_of={case.id: case.identity for case in header.cases},
        units=[(case.id, seed) for case in header.cases for seed in header.seeds],
        models=[model.name for model in header.models],
        metrics=view.infos,
        primary=header.primary,
        floors=view.floors,
        trained_on={model.name: model.trained_on for model in header.models},
    )
    return replace(view, leaderboard=board, records=records)
