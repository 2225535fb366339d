"""What the finger metrics see: known damage and known nuisances, on photographs of held-out people and on clips.

    python reports/fingers/measure.py PHOTOGRAPHS CLIP... --out reports/fingers/measured.json --work FOLDER

Damage is that of ``ipa-bench validate``, made by other code than what the head was trained on. Every number is of a
difference: a photograph less itself undamaged, a clip less its driving clip at the same frames, in windows of a second.
Presence and keypoint error stand beside it. ``README.md`` has the tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from ipa_bench import video
from ipa_bench.cache import Cache
from ipa_bench.compare.two_sample import auc
from ipa_bench.errors import Unscorable
from ipa_bench.metrics.base import Evidence
from ipa_bench.metrics.pairing import period
from ipa_bench.models import damage as damages
from ipa_bench.observers.fingers import FingerObserver
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.mediapipe.palm import Hand, HandNet
from ipa_bench.scorer import Scorer
from ipa_bench.types import Case, HandTracks, UInt8
from ipa_bench.validate import ladder
from trainers.fingers.sources import HELD_OUT, LEAST_PRESENCE, SIGNS

DAMAGES = ("finger_added", "finger_erased", "finger_fused", "finger_doubled", "finger_bent")
NUISANCES = ("reencode", "jpeg", "hue", "shift", "late", "frame_blur", "light")
METRICS = ("hand.finger_count", "hand.anatomy_shift", "hand.confidence", "hand.keypoint_error")
#: of clips: those that are measured of what has no three of its own, or whose strongest says enough
STRENGTHS: dict[str, tuple[damages.Strength, ...]] = {
    "clean": ("mild",), "reencode": ("strong",), "jpeg": ("strong",), "hue": ("strong",), "shift": ("strong",),
    "late": ("medium",), "frame_blur": ("mild",), "light": ("mild", "strong"),
    **dict.fromkeys(DAMAGES[1:], ("medium", "strong")),
}  # fmt: skip
#: side of a photograph in px when it is damaged; people take 100
SIDE = 400
#: metric -> rows of values
Table = dict[str, list[float]]


def light(frame: UInt8, strength: str) -> UInt8:
    """Another exposure: gamma 0.8, 1.3 or 1.6."""
    gamma = {"mild": 0.8, "medium": 1.3, "strong": 1.6}[strength]
    return np.asarray(np.rint(255 * (frame / 255) ** gamma), np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# photographs


def of_photographs(folder: Path, most: int) -> dict[str, dict[str, Table]]:
    """Damage or nuisance -> strength -> metric -> difference to the same photograph undamaged, larger is worse."""
    net, observer = HandNet(), FingerObserver()
    if why := observer.load():
        raise SystemExit(why)
    found: dict[str, dict[str, Table]] = {}
    for image, hand, tracks, sign in photographs(folder, net, most):
        clean = observer.look(Image.fromarray(image), hand.landmarks)
        for name, strength, changed in versions(image, tracks):
            # what a missing finger is missing from: index, ring and middle finger stand
            if name == "finger_erased" and not {1, 2, 3} <= set(SIGNS[sign]):
                continue
            seen = best(net, Image.fromarray(changed))
            rows = found.setdefault(name, {}).setdefault(strength, {})
            if seen is None or seen.apart(hand) > 1:
                rows.setdefault("lost", []).append(1.0)
                continue
            wrong, count = observer.look(Image.fromarray(changed), seen.landmarks)
            error = np.linalg.norm(seen.landmarks - hand.landmarks, axis=1).mean() / hand.size
            values = (abs(count - clean[1]), wrong - clean[0], hand.presence - seen.presence, float(error))
            for metric, value in zip(METRICS, values, strict=True):
                rows.setdefault(metric, []).append(float(value))
            rows.setdefault("fingers", []).append(count - clean[1])
    return found


def photographs(folder: Path, net: HandNet, most: int) -> Iterator[tuple[UInt8, Hand, HandTracks, int]]:
    """Photographs of held-out people with their hands."""
    for sign in range(10):
        files = sorted((folder / str(sign)).glob("*.JPG"))[HELD_OUT.start : HELD_OUT.stop]
        for file in files[:: max(len(files) // most, 1)]:
            with Image.open(file) as opened:
                image = opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            hand = best(net, image)
            if hand is not None and hand.presence > LEAST_PRESENCE:
                yield np.asarray(image), hand, tracks_of(hand), sign


def best(net: HandNet, image: Image.Image) -> Hand | None:
    """The hand of a picture that the net is surest of."""
    hands = [net.hand(image, palm) for palm in net.palms(image)]
    return max((hand for hand in hands if hand.presence >= 0.5), key=lambda hand: hand.presence, default=None)


def tracks_of(hand: Hand) -> HandTracks:
    """One hand in one frame."""
    both = np.zeros((1, 2, 21, 2), np.float32)
    both[0, 1] = hand.landmarks
    box = np.zeros((1, 2, 4), np.float32)
    box[0, 1] = hand.box
    none = np.zeros((1, 2), np.float32)
    there = np.array([[False, True]])
    world = np.zeros((1, 2, 21, 3), np.float32)
    return HandTracks(
        both, world, none, box, none, none, there, np.zeros(1), (SIDE, SIDE), "hands", hand.landmarks.tobytes().hex()
    )


def versions(image: UInt8, tracks: HandTracks) -> Iterator[tuple[str, str, UInt8]]:
    """(damage or nuisance, strength, picture) of a photograph."""
    for name in DAMAGES:
        damage = damages.find(name)
        for strength in damages.STRENGTHS:
            yield name, strength, damages.damage_frame(image, tracks, 0, name, damage.level(strength))
    for strength, sigma, side, shift in zip(damages.STRENGTHS, (1, 2, 4), (200, 120, 80), (4, 10, 20), strict=True):
        for name in ("jpeg", "hue"):
            yield name, strength, next(damages.damaged([image], tracks, 25, damages.find(name), strength))
        picture = Image.fromarray(image)
        yield "light", strength, light(image, strength)
        yield "blur of all", strength, np.asarray(picture.filter(ImageFilter.GaussianBlur(sigma)))
        yield "half the pixels", strength, np.asarray(picture.resize((side, side)).resize((SIDE, SIDE)))
        yield "shift", strength, np.asarray(np.roll(image, (shift, shift), (0, 1)))


# ---------------------------------------------------------------------------------------------------------------------
# clips


def cut(clip: Path, first: int, count: int, work: Path) -> Path:
    """Some frames of a clip, as a clip."""
    target = work / f"{clip.stem}-{first}-{count}.mp4"
    if not target.exists():
        frames = (frame.image for frame in islice(video.read_frames(clip), first, first + count))
        target.write_bytes(damages.file_of(frames, video.probe(clip).fps, 8))
    return target


def of_clip(path: Path, work: Path) -> dict[str, dict[str, Table]]:
    """The same of a clip: values of the metrics in windows of a second."""
    looker = Looker(Cache(work / "looks"))
    scorer = Scorer(looker, METRICS, pixels=False)
    hands = looker.hands(path)
    fps = 1 / period(hands.times)
    found: dict[str, dict[str, Table]] = {}
    for name in ("clean", *NUISANCES, *DAMAGES):
        for strength in STRENGTHS.get(name, damages.STRENGTHS):
            target = work / f"{path.stem}-{name}-{strength}.mp4"
            if not target.exists():
                frames = (frame.image for frame in video.read_frames(path))
                if name == "light":
                    changed: Iterable[UInt8] = (light(frame, strength) for frame in frames)
                    target.write_bytes(damages.file_of(changed, fps, 18))
                else:
                    damage = damages.find(name)
                    changed = damages.damaged(frames, hands, fps, damage, strength)
                    target.write_bytes(damages.file_of(changed, fps, damages.crf(damage, strength)))
            try:
                evidence, _ = scorer.evidence(target, Case(path.stem, path))
            except Unscorable as error:
                print(target.name, error.reason, flush=True)
                continue
            found.setdefault(name, {})[strength] = windows(evidence, scorer, round(fps))
            print(target.name, flush=True)
    return found


def windows(evidence: Evidence, scorer: Scorer, length: int) -> Table:
    """metric -> its value in each window that has one of all, larger is worse; and over the whole clip."""
    result: Table = {}
    pair = evidence.driving
    assert pair is not None
    for start in range(0, len(pair.times) - length + 1, length):
        cut = ladder._cut_pair(pair, slice(start, start + length))
        part = replace(evidence, driving=cut, truth=cut)
        values = {metric.info.id.partition("@")[0]: metric.measure(part).value for metric in scorer.metrics}
        if None not in values.values():
            for metric, value in values.items():
                result.setdefault(metric, []).append(-value if metric == "hand.confidence" else value)  # type: ignore[operator]
    return result


# ---------------------------------------------------------------------------------------------------------------------
# what that says


def told(found: dict[str, dict[str, Table]], quiet: tuple[str, ...]) -> dict[str, object]:
    """AUC of each damage and strength against the versions in ``quiet``; and at the threshold that catches medium added
    fingers in 80 % the share of false alarms of each nuisance."""
    result: dict[str, object] = {}
    for metric in METRICS:
        right = [value for name in quiet for rows in found[name].values() for value in rows[metric]]
        bar = float(np.quantile(found["finger_added"]["medium"][metric], 0.2))
        nuisances = [name for name in found if name not in DAMAGES]
        result[metric] = {
            "auc": {n: {s: auc(rows[metric], right) for s, rows in found[n].items()} for n in DAMAGES if n in found},
            "threshold": bar,
            "false_alarms": {
                name: float(np.mean([value >= bar for rows in found[name].values() for value in rows[metric]]))
                for name in nuisances
            },
            "mean": {n: {s: float(np.mean(rows[metric])) for s, rows in found[n].items()} for n in found},
        }
    return result


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photographs", type=Path)
    parser.add_argument("clips", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--frames", type=int, nargs=2, default=(0, 10_000), help="of clips: the first, and how many")
    parser.add_argument("--most", type=int, default=25, help="photographs of each sign")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    result: dict[str, object] = {}
    stills = of_photographs(given.photographs, given.most)
    quiet = tuple(name for name in stills if name not in DAMAGES)
    result["photographs"] = told(stills, quiet) | {
        "fingers": {n: {s: float(np.mean(r["fingers"])) for s, r in rows.items()} for n, rows in stills.items()},
        "n": len(stills["jpeg"]["mild"]["fingers"]),
        "lost": {n: {s: len(r.get("lost", ())) for s, r in rows.items()} for n, rows in stills.items()},
    }
    given.out.write_text(json.dumps(rounded(result), indent=1) + "\n")
    for clip in given.clips:
        result[clip.stem] = told(of_clip(cut(clip, *given.frames, given.work), given.work), ("clean", "reencode"))
    given.out.write_text(json.dumps(rounded(result), indent=1) + "\n")


def rounded(value: object) -> object:
    """Numbers to three digits behind the point."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
