"""Known faults of who is who in the built-in world: what each metric and the reader of the truth make of them.

    python reports/identity/ladder.py [GROUPS [AT-ONCE]]

Two people of the test split in a scene, seen through H.264; every fault at three strengths, held-out twins beside, and
nuisances, which leave everybody who they are. A metric's separation is the share of (clean, faulty) pairs of the same
scene that it orders rightly, ties (less than 0.01) a half: the paired AUC. Of a nuisance it is how often the metric
calls it worse by more than that and than the bound that 95 % of milder re-encodings stay under. Every fourth frame is
looked at, and faces of some faults alone. Writes ladder.json and ladder.md beside this file. What a scene gave is kept
in the folder ladder.parts: errors of the reader, which are read anew each time, and values of faces and colours.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from skimage.color import rgb2lab

from ipa_bench import video
from ipa_bench.embedded.group.faults import FAULTS, STRENGTHS, Fault, Strength, faulty
from ipa_bench.embedded.group.reader import Reader, reader
from ipa_bench.embedded.group.setting import Key, Setting, setting
from ipa_bench.embedded.group.shot import Shot, reference, shot
from ipa_bench.metrics import identity, truth
from ipa_bench.metrics.base import Measured
from ipa_bench.metrics.people import SFACE, beside
from ipa_bench.observers import faces
from ipa_bench.types import Observation, UInt8

HERE = Path(__file__).parent
PARTS = HERE / "ladder.parts"
STEP, CRF, MILD_CRF = 4, 20, 24
#: name -> (better, measure)
READS: dict[str, tuple[int, Callable[[truth.Reading], Measured]]] = {
    "truth.top1": (1, truth.top1), "truth.likelihood": (1, truth.likelihood), "truth.swap": (-1, truth.swap),
    "truth.leak": (-1, truth.leak), "truth.blend": (-1, truth.blend), "truth.duplicate": (-1, truth.duplicate),
    "truth.stranger": (-1, truth.stranger), "truth.drift": (-1, truth.drift),
}  # fmt: skip
FACES: dict[str, tuple[int, Callable[[identity.People], Measured]]] = {
    "identity.similarity": (1, identity.similarity), "identity.margin": (1, identity.margin),
    "identity.top1": (1, identity.top1), "identity.swap": (-1, identity.swap),
    "identity.duplicate": (-1, identity.duplicate), "identity.drift": (-1, identity.drift),
}  # fmt: skip
#: values that differ by less are ties: shares, likenesses, shares a second
EQUAL = 0.01
#: of a torso in view, fewer say nothing of its colours
LEAST_PIXELS = 100
#: the variants whose faces are looked at: networks take most of the time
FACED = (
    "swap medium", "blend medium", "leak medium", "duplicate medium", "drift medium", "swap_heads medium",
    "swap_back medium", "stranger medium", "light medium", "blur medium", "flicker medium", "h264 medium",
)  # fmt: skip
HISTOGRAM = "LAB histogram"
BETTER = {name: sign for table in (READS, FACES) for name, (sign, _) in table.items()} | {HISTOGRAM: 1}


@dataclass(frozen=True)
class Variant:
    """One clip of a scene."""

    name: str
    fault: Fault | None
    strength: Strength = "medium"


CLEAN, FLOOR = Variant("clean", None), Variant("re-encoded", None)


def variants() -> list[Variant]:
    """All clips of a scene; those without strengths once."""
    found = [CLEAN, FLOOR]
    for fault in FAULTS:
        levels = STRENGTHS[:1] if fault in once() else STRENGTHS
        found += [Variant(f"{fault.name} {level}", fault, level) for level in levels]
    return found


class Look:
    """The networks, and what they see in the clean clip of a scene."""

    def __init__(self) -> None:
        self.watcher, self.pictures = faces.FaceObserver(faces.SFACE), faces.ReferenceObserver(faces.SFACE)
        for observer in (self.watcher, self.pictures):
            if reason := observer.load():
                raise SystemExit(reason)

    def see(self, observer: faces.FaceObserver | faces.ReferenceObserver, frames: UInt8, fps: float) -> Observation:
        """An observation of frames."""
        session = observer.start()
        with observer.working():
            for index, frame in enumerate(frames):
                session.push(frame, index / fps)
            return Observation(observer.id, "", session.finish())


def thinned(described: Setting) -> Setting:
    """Every fourth frame of a description."""
    arrays = ("chest", "head", "tilt", "shoulder", "elbow", "wrist", "hands", "palms")
    rigs = [replace(rig, **{name: getattr(rig, name)[::STEP] for name in arrays}) for rig in described.rigs]
    looks, scenes = described.looks[::STEP], described.scenes[::STEP]
    return replace(described, looks=looks, scenes=scenes, rigs=tuple(rigs), fps=described.fps / STEP)


def seen(clip: Shot, crf: int) -> UInt8:
    """The frames as they come out of a file."""
    coded = video.read_bytes(video.encode_bytes(clip.frames, clip.setting.fps, crf=crf))
    return np.stack([frame.image for frame in coded])


def errors(key: Key) -> dict[str, np.ndarray]:
    """What the reader sees: ``error`` [variants, T, K, 2, C], ``pixels`` [variants, T, K, 2], ``fps`` of the scene."""
    described = setting(key)
    found = []
    for variant in variants():
        changed = altered(described, variant, key)
        frames = seen(shot(thinned(changed)), crf_of(variant))
        moves = variant.fault is not None and variant.fault.moves  # the poses are those of the changed scene
        scene = Reader(key, changed) if moves else reader(key)
        rows = [scene.read(frame, STEP * index) for index, frame in enumerate(frames)]
        found.append([np.stack(each) for each in zip(*rows, strict=True)])
    error, pixels = (np.stack(each) for each in zip(*found, strict=True))
    return {"error": error, "pixels": pixels, "fps": np.float64(described.fps)}


def readings(kept: Mapping[str, np.ndarray]) -> dict[str, truth.Reading]:
    """variant -> what the errors of a scene say."""
    error, pixels = kept["error"].astype(float), kept["pixels"].astype(float)
    times = STEP * np.arange(error.shape[1]) / float(kept["fps"])
    return {variant.name: truth.reading(error[index], pixels[index], times) for index, variant in enumerate(variants())}


def altered(described: Setting, variant: Variant, key: Key) -> Setting:
    """The scene with a variant's fault."""
    return described if variant.fault is None else faulty(described, variant.fault, variant.strength, key.group)


def crf_of(variant: Variant) -> int:
    """How a variant's clip is stored."""
    return MILD_CRF if variant == FLOOR else CRF


def histogram(pixels: UInt8) -> np.ndarray:
    """512 bins of LAB, square root of the share of pixels [n, 3]."""
    lab = rgb2lab(pixels[None].astype(float) / 255)[0]
    cut = np.stack([lab[:, 0] / 100, (lab[:, 1] + 90) / 180, (lab[:, 2] + 90) / 180], -1)
    counts = np.histogramdd(cut, (8, 8, 8), ((0, 1),) * 3)[0].ravel()
    return np.sqrt(counts / max(counts.sum(), 1))


def by_histogram(frames: UInt8, clip: Shot, own: list[np.ndarray]) -> float:
    """Likeness of each place's torso to the person of the place, by colours alone, mean over frames and people."""
    values = []
    for index, frame in enumerate(frames):
        for slot, wanted in enumerate(own):
            torso = clip.cover[index, slot, 1] > 200
            if torso.sum() >= LEAST_PIXELS:
                values.append(float(histogram(frame[torso]) @ wanted))
    return float(np.mean(values))


def by_pictures(key: Key, look: Look) -> dict[str, dict[str, float | None]]:
    """variant -> metric of faces or colours -> value."""
    described = setting(key)
    pictures = [look.see(look.pictures, enlarged(reference(key, slot)[None]), 1) for slot in range(key.people)]
    found: dict[str, dict[str, float | None]] = {}
    real: Observation | None
    own: list[np.ndarray] = []
    for variant in variants():
        clip = shot(thinned(altered(described, variant, key)))
        frames = seen(clip, crf_of(variant))
        if variant == CLEAN:
            ours = look.see(look.watcher, enlarged(frames), described.fps / STEP)
            own = [torso_of(frames, clip, slot) for slot in range(key.people)]
            real = ours
        else:
            real = None if variant.fault is not None and variant.fault.moves else ours
        values: dict[str, float | None] = {HISTOGRAM: by_histogram(frames, clip, own)}
        if variant.name in (CLEAN.name, FLOOR.name, *FACED):
            of_clip = ours if variant == CLEAN else look.see(look.watcher, enlarged(frames), described.fps / STEP)
            people = beside(of_clip, pictures, SFACE, truth=of_clip if real is None else real)
            values |= {name: measure(people).value for name, (_, measure) in FACES.items()}
        found[variant.name] = values
    return found


def enlarged(frames: UInt8) -> UInt8:
    """Twice as large: drawn faces have 26 pixels, and from 24 on one can be judged."""
    return np.stack([video.resize(f, (2 * f.shape[1], 2 * f.shape[0]), "stretch") for f in frames])


def torso_of(frames: UInt8, clip: Shot, slot: int) -> np.ndarray:
    """The colours of a person's torso in the clean clip."""
    parts = [frame[clip.cover[index, slot, 1] > 200] for index, frame in enumerate(frames)]
    return histogram(np.concatenate(parts))


def once() -> list[Fault]:
    """Faults of one strength."""
    return [fault for fault in FAULTS if len(set(fault.levels)) == 1]


def table(scenes: list[dict[str, dict[str, float | None]]]) -> dict[str, dict[str, float]]:
    """variant -> metric -> paired AUC, or for a nuisance how often it is called worse."""
    floors = {}
    for name in BETTER:
        losses = [v for one in scenes if (v := loss(one, FLOOR.name, name)) is not None]
        floors[name] = float(np.quantile(losses, 0.95)) if losses else 0.0
    rows: dict[str, dict[str, float]] = {}
    for variant in variants()[2:]:
        assert variant.fault is not None
        cells = {}
        for name in BETTER:
            losses = np.array([v for one in scenes if (v := loss(one, variant.name, name)) is not None])
            if not len(losses):
                continue
            if variant.fault.family == "nuisance":
                cells[name] = float((losses > max(floors[name], EQUAL)).mean())
            else:
                cells[name] = float(((losses > EQUAL) + 0.5 * (np.abs(losses) <= EQUAL)).mean())
        rows[variant.name] = cells
    return rows


def loss(one: dict[str, dict[str, float | None]], variant: str, name: str) -> float | None:
    """How much worse than the clean clip of the same scene."""
    value, clean = one[variant].get(name), one[CLEAN.name].get(name)
    return None if value is None or clean is None else BETTER[name] * (clean - value)


def markdown(rows: dict[str, dict[str, float]], scenes: int) -> str:
    """The tables as text."""
    names = list(BETTER)
    head = (
        "| | "
        + " | ".join(name.removeprefix("identity.") for name in names)
        + " |\n|---|"
        + "---:|" * len(names)
        + "\n"
    )

    def lines(chosen: Callable[[Fault], bool]) -> str:
        out = head
        for variant in variants()[2:]:
            assert variant.fault is not None
            if chosen(variant.fault):
                cells = [f"{rows[variant.name][n]:.2f}" if n in rows[variant.name] else "–" for n in names]
                out += f"| {variant.name} | " + " | ".join(cells) + " |\n"
        return out

    return (
        "# Known faults in the built-in world, and who sees them\n\n"
        f"{scenes} scenes of two people. `truth.*` knows the scene; the others see pictures alone: `identity.*.sface` "
        "(faces of 26 pixels, shown twice as large; 12 variants), and the colours of torsos beside those of the clean "
        "clip.\nOf faults: share of (clean, faulty) pairs in the right order, a tie (less than 0.01) counts a half. "
        "Of nuisances: share called worse.\n\n"
        f"## Faults to train on\n\n{lines(lambda f: f.family != 'nuisance' and not f.held_out)}\n"
        f"## Held-out twins\n\n{lines(lambda f: f.family != 'nuisance' and f.held_out)}\n"
        f"## Nuisances: share called worse\n\n{lines(lambda f: f.family == 'nuisance')}"
    )


def main(groups: int, most: int | None = None) -> None:
    """Measure what is not there yet, at most so many scenes now, and write once all are there."""
    PARTS.mkdir(exist_ok=True)
    look: Look | None = None
    scenes = []
    for group in range(groups):
        key = Key(2, "test", 100 + group)
        file = PARTS / f"{group}.json"
        if not file.exists():
            look = look or Look()
            file.write_text(json.dumps(by_pictures(key, look)))
            print(f"{group + 1}/{groups}", flush=True)
            most = None if most is None else most - 1
            if most == 0 and group + 1 < groups:
                return
        pictures, reads = json.loads(file.read_text()), readings(kept_errors(key))
        scenes.append({
            name: pictures[name] | {metric: measure(reads[name]).value for metric, (_, measure) in READS.items()}
            for name in reads
        })  # fmt: skip
    rows = table(scenes)
    (HERE / "ladder.json").write_text(json.dumps({"scenes": groups, "auc": rows}, indent=1) + "\n")
    (HERE / "ladder.md").write_text(markdown(rows, groups))


def kept_errors(key: Key) -> Mapping[str, np.ndarray]:
    """The reader's errors of a scene, looked at once."""
    file = PARTS / f"{key.split}{key.group}.npz"
    if not file.exists():
        np.savez_compressed(file, **errors(key))
    with np.load(file) as kept:
        return dict(kept)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:] or ["8"]))
