"""The rest of the picture: wall, torso, head, hair, sleeves. Shapes with soft edges and a rounded look."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ipa_bench.embedded import relief
from ipa_bench.embedded.people import Colour, Person, Scene
from ipa_bench.embedded.rig import SIDES, SIZE, Rig
from ipa_bench.types import Float32, Float64, UInt8

Pattern = Callable[[Float32, Float32], Float32]
#: of a person, as they are drawn; a neck belongs to the torso
PARTS = ("head", "torso", "sleeves", "left hand", "right hand")


class Canvas:
    """A picture under work: float32 ``[H, W, 3]`` in [0, 1], as large as the wall."""

    def __init__(self, wall: Float32, scene: Scene) -> None:
        self.image = wall.copy()
        height, width = wall.shape[:2]
        self.size = (width, height)
        self.hands = np.zeros((2, height, width), np.float32)
        #: what of a person is being drawn, one of :data:`PARTS`
        self.part = ""
        self._scene = scene

    def _window(self, low: Float64, high: Float64) -> tuple[slice, slice, Float32, Float32]:
        x0, y0 = (max(int(np.floor(v)) - 1, 0) for v in low)
        x1, y1 = (min(int(np.ceil(v)) + 2, side) for v, side in zip(high, self.size, strict=True))
        x = np.arange(x0, x1, dtype=np.float32)[None, :] + np.float32(0.5)
        y = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5)
        return slice(y0, max(y1, y0)), slice(x0, max(x1, x0)), x, y

    def _blend(self, rows: slice, columns: slice, colour: Float32, alpha: Float32) -> None:
        part = self.image[rows, columns]
        part += (colour - part) * alpha[..., None]

    def shade(self, nx: Float32, ny: Float32, soft: float = 0.8) -> Float32:
        """Light on a surface that leans by (nx, ny), each in [−1, 1]; ``soft`` flattens it."""
        lx, ly, lz = self._scene.light
        nx, ny = nx * np.float32(soft), ny * np.float32(soft)
        nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0.05))
        ambient = self._scene.ambient + 0.1
        return np.asarray(ambient + (1.1 - ambient) * np.maximum(nx * lx + ny * ly + nz * lz, 0), np.float32)

    def capsule(
        self, a: Float64, b: Float64, ra: float, rb: float, colour: Colour, trim: Pattern | None = None
    ) -> None:
        """A lit tapered tube from ``a`` to ``b``, pixels."""
        a, b = a[:2], b[:2]
        radius = max(ra, rb)
        rows, columns, x, y = self._window(np.minimum(a, b) - radius, np.maximum(a, b) + radius)
        if x.size == 0 or y.size == 0:
            return
        dx, dy = np.float32(b[0] - a[0]), np.float32(b[1] - a[1])
        px, py = x - np.float32(a[0]), y - np.float32(a[1])
        t = np.clip((px * dx + py * dy) / max(float(dx * dx + dy * dy), 1e-6), 0, 1)
        ox, oy, r = px - t * dx, py - t * dy, np.float32(ra) + np.float32(rb - ra) * t
        alpha = np.asarray(np.clip(r - np.sqrt(ox * ox + oy * oy) + np.float32(0.5), 0, 1), np.float32)
        light = self.shade(np.clip(ox / r, -1, 1), np.clip(oy / r, -1, 1))
        self._blend(rows, columns, light[..., None] * np.array(colour, np.float32), alpha)

    def ellipse(
        self, middle: Float64, axes: tuple[float, float], colour: Colour, turn: float = 0.0, lit: bool = True
    ) -> None:
        """A lit (or flat) ellipse, ``axes`` half its width and height in pixels, turned by ``turn`` radians."""
        rows, columns, x, y = self._window(middle - max(axes), middle + max(axes))
        if x.size == 0 or y.size == 0:
            return
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        px, py = x - np.float32(middle[0]), y - np.float32(middle[1])
        u, v = (px * cos + py * sin) / np.float32(axes[0]), (py * cos - px * sin) / np.float32(axes[1])
        rho = np.sqrt(u * u + v * v)
        alpha = np.clip((1 - rho) * np.float32(min(axes)) + np.float32(0.5), 0, 1)
        light = self.shade(np.clip(u, -1, 1), np.clip(v, -1, 1)) if lit else np.ones_like(rho)
        self._blend(rows, columns, light[..., None] * np.array(colour, np.float32), alpha)

    def torso(self, chest: Float64, person: Person) -> None:
        """Shoulders and chest down to the frame's edge, with the shirt's pattern."""
        top, half, waist = chest[1] - 6, person.shoulders + 5.0, person.waist
        rows, columns, x, y = self._window(
            np.array([chest[0] - half - 2, top - 3]), np.array([chest[0] + half + 2, self.size[1]])
        )
        px, py = x - np.float32(chest[0]), y - np.float32(top)
        wide = np.float32(half) - np.float32(half - waist) * np.clip(py / np.float32(60), 0, 1)
        # Shoulders slope: the edge falls with the distance from the neck.
        fall = (
            np.maximum(np.abs(px) - 6, 0) * np.float32(0.28) + np.maximum(np.abs(px) - np.float32(half - 7), 0) ** 2 / 9
        )
        inside = np.minimum(wide - np.abs(px), (py - fall) * np.float32(0.9))
        alpha = np.clip(inside + np.float32(0.5), 0, 1)
        rim = np.clip(1 - inside / 9, 0, 1)
        light = self.shade(
            np.clip(px / wide, -1, 1) * rim * np.float32(0.7) + px / 90, np.clip(0.15 - rim * 0.3 * (py < 12), -1, 1)
        )
        self._blend(rows, columns, light[..., None] * _cloth(person, px, py), alpha)

    def paste(self, patch: relief.Patch, slot: int) -> None:
        """Put a hand over the picture and mark it in that slot's mask."""
        h, w = patch.alpha.shape
        rows, columns = slice(patch.y, patch.y + h), slice(patch.x, patch.x + w)
        part = self.image[rows, columns]
        part *= 1 - patch.alpha[..., None]
        part += patch.colour
        self.hands[:, rows, columns] *= 1 - patch.alpha
        self.hands[slot, rows, columns] += patch.alpha


def _cloth(person: Person, px: Float32, py: Float32) -> Float32:
    """Colour of the shirt ``[h, w, 3]`` at (px, py) from the middle of its upper edge."""
    px, py = np.broadcast_arrays(px, py)
    if person.shirt == "stripes":
        share = 0.5 + 0.5 * np.clip(np.sin(py * 0.55) * 3, -1, 1)
    elif person.shirt == "bars":
        share = 0.5 + 0.5 * np.clip(np.sin(px * 0.5) * 3, -1, 1)
    elif person.shirt == "jacket":
        share = np.clip(6.5 - np.abs(px) + py * 0.02, 0, 1)
    else:
        share = np.clip(5 - np.hypot(px * 0.9, py - 1.0) * 0.8, 0, 1)
    share = share[..., None].astype(np.float32)
    return np.asarray(np.array(person.cloth, np.float32) * (1 - share) + np.array(person.trim, np.float32) * share)


def wall(scene: Scene, width: int = SIZE) -> Float32:
    """The background: float32 ``[SIZE, width, 3]``. A wider one goes on to the right."""
    rng = np.random.default_rng(scene.seed)
    x = (np.arange(width, dtype=np.float32) / SIZE)[None, :]
    y = (np.arange(SIZE, dtype=np.float32) / SIZE)[:, None]
    share: Float32
    if scene.texture == "blobs":
        share = np.zeros((SIZE, width), np.float32)
        for _ in range(6):
            fx, fy, phase = rng.uniform(-14, 14), rng.uniform(-14, 14), rng.uniform(0, 6.3)
            share += np.sin(fx * x + fy * y + np.float32(phase)).astype(np.float32) / 6
        share = 0.5 + share
    elif scene.texture == "panels":
        bars = np.sin(x * rng.uniform(12, 30) + rng.uniform(0, 6))
        share = np.asarray(0.5 + 0.5 * np.clip(bars * 4, -1, 1) + 0 * y, np.float32)
    elif scene.texture == "bricks":
        row = np.floor(y * rng.uniform(7, 11))
        column = x * rng.uniform(4, 7) + 0.5 * (row % 2)
        share = np.asarray(0.5 + 0.35 * np.sin(row * 2.1 + np.floor(column) * 3.7) + 0 * x, np.float32)
        share = np.asarray(share * np.clip(np.abs((column % 1) - 0.5) * -16 + 8, 0.25, 1), np.float32)
    else:
        share = np.asarray(x * rng.uniform(-0.5, 0.5) + y * rng.uniform(-0.5, 0.5) + 0.5, np.float32)
    share = np.clip(share, 0, 1)[..., None]
    colour = np.array(scene.wall, np.float32) * (1 - share) + np.array(scene.accent, np.float32) * share
    lx, ly, _ = scene.light
    fade = 1 + 0.18 * (lx * (x - 0.5) + ly * (y - 0.5)) * 2
    return np.asarray(np.clip(colour * fade[..., None], 0, 1), np.float32)


def frame(rig: Rig, t: int, person: Person, scene: Scene, background: Float32) -> tuple[UInt8, Float32]:
    """Picture ``t``: uint8 ``[SIZE, SIZE, 3]`` RGB, and each hand's share of a pixel, float32 ``[2, SIZE, SIZE]``."""
    canvas = Canvas(background, scene)
    figure(canvas, rig, t, person, scene)
    return finished(canvas), canvas.hands


def finished(canvas: Canvas) -> UInt8:
    """The picture, uint8 ``[H, W, 3]`` RGB."""
    return (np.clip(canvas.image, 0, 1) * 255 + 0.5).astype(np.uint8)


def figure(canvas: Canvas, rig: Rig, t: int, person: Person, scene: Scene) -> None:
    """Draw a person over what is there."""
    bust(canvas, rig, t, person)
    order = sorted(range(2), key=lambda slot: float(rig.hands[t, slot, :, 1].mean()))  # the lower hand is nearer
    for slot in order:
        _arm(canvas, rig, t, slot, person, scene)


def bust(canvas: Canvas, rig: Rig, t: int, person: Person) -> None:
    """Draw a person's head and torso over what is there, without arms."""
    head, tilt = rig.head[t], float(rig.tilt[t])
    canvas.part = "head"
    _hair_behind(canvas, head, tilt, person)
    canvas.part = "torso"
    throat, collar = np.array([0, person.head[1] * 0.6]), np.array([0, -3])
    canvas.capsule(head + throat, rig.chest[t] + collar, 6.0, 6.5, _darker(person.skin, 0.85))
    canvas.torso(rig.chest[t], person)
    canvas.part = "head"
    _face(canvas, head, tilt, person)


def _arm(canvas: Canvas, rig: Rig, t: int, slot: int, person: Person, scene: Scene) -> None:
    canvas.part = "sleeves"
    shoulder, elbow, wrist = rig.shoulder[t, slot], rig.elbow[t, slot], rig.wrist[t, slot]
    cloth = _darker(person.cloth, 0.94)
    unit = person.palm
    inner = shoulder + np.array([-SIDES[slot] * 1.5, 3.0, 0.0])
    # Bare elbows hide hands of the same skin from the palm detector: sleeves are long, or rolled up to the forearm.
    cuff = wrist + (elbow - wrist) * person.cuff
    canvas.capsule(inner, elbow, 8.0, 7.0, cloth)
    canvas.capsule(elbow, cuff, 7.0, 0.31 * unit, cloth)
    end = wrist + (elbow - wrist) * (person.cuff + 0.06)
    patch = relief.draw(
        rig.hands[t, slot],
        rig.palms[t, slot],
        (end, 0.25 * unit),
        unit,
        person.skin,
        scene.light,
        scene.ambient,
        canvas.size,
    )
    if patch is not None:
        canvas.paste(patch, slot)
    canvas.capsule(cuff, end, 0.31 * unit, 0.32 * unit, person.trim if person.cuff > 0.4 else cloth)


def _darker(colour: Colour, share: float) -> Colour:
    return (colour[0] * share, colour[1] * share, colour[2] * share)


def _turned(head: Float64, tilt: float, x: float, y: float) -> Float64:
    """A point of the head, (x, y) from its middle, in the frame."""
    return np.asarray(head + np.array([x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)]))


def _hair_behind(canvas: Canvas, head: Float64, tilt: float, person: Person) -> None:
    w, h = person.head
    if person.hair_style == "long":
        canvas.ellipse(_turned(head, tilt, 0, 5), (w * 1.25, h * 1.3), person.hair, tilt)
    if person.hair_style == "bun":
        canvas.ellipse(_turned(head, tilt, 0, -h * 1.15), (w * 0.5, w * 0.45), person.hair, tilt)


def _face(canvas: Canvas, head: Float64, tilt: float, person: Person) -> None:
    w, h = person.head
    dark = (person.skin[0] * 0.55, person.skin[1] * 0.42, person.skin[2] * 0.4)
    for side in SIDES:
        canvas.ellipse(_turned(head, tilt, side * w * 0.98, 1), (2.0, 3.6), person.skin, tilt)
    if person.hair_style != "bald":
        canvas.ellipse(_turned(head, tilt, 0, -h * 0.12), (w * 1.08, h * 1.0), person.hair, tilt)
    canvas.ellipse(
        _turned(head, tilt, 0, h * 0.06 if person.hair_style != "bald" else 0), (w, h * 0.94), person.skin, tilt
    )
    if person.hair_style == "side":
        canvas.ellipse(_turned(head, tilt, -w * 0.25, -h * 0.72), (w * 0.85, h * 0.34), person.hair, tilt - 0.25)
    elif person.hair_style != "bald":
        canvas.ellipse(_turned(head, tilt, 0, -h * 0.78), (w * 0.8, h * 0.26), person.hair, tilt)
    for side in SIDES:
        canvas.ellipse(_turned(head, tilt, side * w * 0.42, -1.5), (2.6, 1.7), (0.93, 0.92, 0.9), tilt, lit=False)
        canvas.ellipse(_turned(head, tilt, side * w * 0.42, -1.4), (1.4, 1.5), (0.1, 0.08, 0.08), tilt, lit=False)
        canvas.ellipse(_turned(head, tilt, side * w * 0.42, -5.2), (3.1, 0.8), dark, tilt + side * 0.1, lit=False)
        if person.glasses:
            canvas.capsule(
                _turned(head, tilt, side * w * 0.16, -3.8),
                _turned(head, tilt, side * w * 0.8, -3.8),
                0.7,
                0.7,
                (0.1, 0.1, 0.12),
            )
            canvas.capsule(
                _turned(head, tilt, side * w * 0.18, 1.6),
                _turned(head, tilt, side * w * 0.7, 1.6),
                0.6,
                0.6,
                (0.1, 0.1, 0.12),
            )
    canvas.ellipse(_turned(head, tilt, 0, 3.2), (1.9, 2.6), _darker(person.skin, 0.86), tilt)
    canvas.ellipse(_turned(head, tilt, 0, h * 0.55), (4.2, 1.2), (dark[0] * 1.25, dark[1], dark[2]), tilt, lit=False)
