"""Who is in each place of a clip, by analysis by synthesis: everybody who could stand there is drawn and compared.

A candidate is drawn in the place's exact pose, scene and light, before what is truly behind it, and compared over head
and torso where nothing is in front. So a reading looks through no network, and a clip's look alone decides it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from ipa_bench.embedded import paint, world
from ipa_bench.embedded.group.faults import COLOURS, SHAPES, mixed
from ipa_bench.embedded.group.setting import Key, Setting, setting
from ipa_bench.embedded.group.shot import HANDS, Layers, dressed
from ipa_bench.embedded.paint import PARTS
from ipa_bench.embedded.people import Person
from ipa_bench.metrics.truth import SHARES
from ipa_bench.types import Bool, Float32, UInt8

#: people of the split who are in no group, among whom a stranger may be recognised
STRANGERS = 10
_FIRST_STRANGER = 3900
#: what is compared, each by itself
READ = ("head", "torso")
#: fewer pixels of a part say nothing
LEAST = 60
#: pixels around what is in front that are left out: its outline depends on who it is
RIM = 2


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame of a clip, ready to be compared: of K places, C candidates each, on P pixels of both parts."""

    #: per place: flat indices of pixels, ``[P]``, and whether each is the torso's, not the head's
    pixels: tuple[np.ndarray, ...]
    torso: tuple[Bool, ...]
    #: per place: the candidates' colours there, uint8 ``[C, P, 3]``
    colours: tuple[UInt8, ...]


def gallery(key: Key, described: Setting, slot: int) -> tuple[Person, ...]:
    """Who is tried in a place: the K people, :data:`STRANGERS`, and for each other person the mixtures.

    A mixture is the place's person with :data:`SHARES` of the other's colours and proportions.
    """
    own = described.people[slot]
    strangers = [world.person_of(key.split, _FIRST_STRANGER + index) for index in range(STRANGERS)]
    others = [person for index, person in enumerate(described.people) if index != slot]
    mixtures = [mixed(own, other, share, (*COLOURS, *SHAPES)) for other in others for share in SHARES]
    return tuple(dressed(own, person) for person in (*described.people, *strangers, *mixtures))


class Reader:
    """Reads frames of a clip's scene. What is drawn for a frame is kept: about half a megabyte."""

    def __init__(self, key: Key, described: Setting | None = None) -> None:
        """``described``: the setting, where it is not the key's own: the same people, elsewhere or otherwise lit."""
        self._setting = setting(key) if described is None else described
        self._galleries = [gallery(key, self._setting, slot) for slot in range(key.people)]
        self._wall = paint.wall(self._setting.scenes[0], self._setting.size[0])
        self.scene = lru_cache(maxsize=None)(self._scene)

    def __len__(self) -> int:
        """Frames of the scene."""
        return len(self._setting)

    def read(self, image: UInt8, t: int) -> tuple[Float32, Float32]:
        """A frame uint8 ``[H, W, 3]`` as frame ``t``: how far it is from each candidate, and on how many pixels.

        float32 ``[K, 2, C]``, mean squared error in grey levels of head and torso, NaN where less than :data:`LEAST`
        pixels show; and ``[K, 2]``. A frame of another size is resized.
        """
        size = self._setting.size
        if image.shape[1::-1] != size:
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        scene = self.scene(t)
        flat = image.reshape(-1, 3).astype(np.float32)
        count = len(scene.pixels)
        errors = np.full((count, len(READ), len(self._galleries[0])), np.nan, np.float32)
        sizes = np.zeros((count, len(READ)), np.float32)
        for slot in range(count):
            away = ((scene.colours[slot] - flat[scene.pixels[slot]]) ** 2).mean(-1)  # [C, P]
            for part, mine in enumerate((~scene.torso[slot], scene.torso[slot])):
                sizes[slot, part] = mine.sum()
                if mine.sum() >= LEAST:
                    errors[slot, part] = away[:, mine].mean(1)
        return errors, sizes

    def _scene(self, t: int) -> Scene:
        described = self._setting
        canvas = Layers(self._wall, described.scenes[t], len(described.rigs))
        behind: dict[int, tuple[Float32, Float32]] = {}
        for body in described.order:
            behind[body] = canvas.image.copy(), canvas.cover.sum((0, 1))
            canvas.body = body
            paint.figure(canvas, described.rigs[body], t, described.looks[t][body], described.scenes[t])
        found = [self._place(slot, t, *behind[slot], canvas.cover) for slot in range(described.count)]
        pixels, torso, colours = zip(*found, strict=True)
        return Scene(pixels, torso, colours)

    def _place(
        self, slot: int, t: int, image: Float32, others: Float32, cover: Float32
    ) -> tuple[np.ndarray, Bool, UInt8]:
        """Pixels, parts and colours of a place: ``others`` is covered behind it, ``cover`` is that of the whole frame.

        Compared is what any candidate covers, but not what is in front, nor what only some of them cover of somebody
        behind, whose look is not known either.
        """
        from scipy.ndimage import maximum_filter  # slow to import: the table of observers comes by here

        described = self._setting
        drawn, parts = [], []
        for person in self._galleries[slot]:
            canvas = Layers(image, described.scenes[t], 1)
            paint.bust(canvas, described.rigs[slot], t, person)
            drawn.append(np.clip(canvas.image, 0, 1))
            parts.append(canvas.cover[0, : len(READ)])
        either = np.stack(parts)  # [C, 2, H, W]
        whole = either.sum(1)
        head = (either[:, 0] > 0.5).any(0)
        shown = (whole > 0.5).any(0)
        before = cover[slot, [PARTS.index("sleeves"), *HANDS]].sum(0)
        order = described.order
        for body in order[order.index(slot) + 1 :]:
            before = before + cover[body].sum(0)
        hidden = maximum_filter(before, 2 * RIM + 1) > 0.02
        unsure = (whole.min(0) < 0.95) & (maximum_filter(others, 2 * RIM + 1) > 0.02)
        where = np.flatnonzero(shown & ~hidden & ~unsure)
        colours = np.stack([picture.reshape(-1, 3)[where] for picture in drawn]) * np.float32(255) + 0.5
        return where, ~head.reshape(-1)[where], colours.astype(np.uint8)


@lru_cache(maxsize=2)  # the videos of a case come one after another
def reader(key: Key) -> Reader:
    """The reader of a scene, with what it has drawn."""
    return Reader(key)
