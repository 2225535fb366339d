"""The description of a clip of several people before anything is drawn: pure data that a fault can change.

Who, where and what they do follow from (number of people, split, group, take) alone. People stand in slots, numbered
from the image's left at the first frame. They have the sizes of the one-person world; the frame is wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np

from ipa_bench.embedded import gesture, world
from ipa_bench.embedded import people as look
from ipa_bench.embedded.people import Person, Scene
from ipa_bench.embedded.rig import ARRAYS, SIZE, Rig, rig
from ipa_bench.errors import UserError
from ipa_bench.types import Float64, Split

#: what people of a clip do: stand, wave at each other, one walks over to a neighbour, two change places
Arrangement = Literal["beside", "wave", "occlude", "cross"]
#: changes whenever a pixel or a joint may change
VERSION = 1
#: number of people -> width of the frame, and where each stands, pixels
WIDTHS = {2: 208, 3: 288}
PLACES = {2: (63.0, 145.0), 3: (62.0, 144.0, 226.0)}
ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)
#: the first identity of a split that stands in groups: the one-person world shows those before alone
FIRST = 4000
#: how near the one who walks over comes to the neighbour, pixels
NEAR = (26.0, 40.0)
#: hand slot that is the inner one of the person in front of whom somebody stands on the image's right, and on its left
_INNER_RIGHT, _INNER_LEFT = 0, 1


class Key(NamedTuple):
    """Names a clip of the world."""

    people: int
    split: Split
    group: int
    take: int = 0

    def __str__(self) -> str:
        """As a case names its scene."""
        return f"group{self.people}/{self.split}/{self.group}/{self.take}"


def key_of(text: str) -> Key:
    """The key that a case names. Raises :class:`UserError` for another text."""
    parts = text.split("/")
    try:
        people, split, group, take = parts
        key = Key(int(people.removeprefix("group")), split, int(group), int(take))  # type: ignore[arg-type]
        if str(key) != text or key.people not in WIDTHS or split not in get_args(Split) or min(key[2:]) < 0:
            raise ValueError
    except ValueError:
        raise UserError(f"{text!r} is no scene of the built-in world", 'write "group2/test/0/0"') from None
    return key


@dataclass(frozen=True)
class Lens:
    """What happens to the picture after it is drawn."""

    #: Gaussian blur, pixels
    blur: float = 0.0
    #: the frame is cut about its middle and enlarged by this
    zoom: float = 1.0
    #: H.264 quality that it is stored at; None: not
    crf: int | None = None


@dataclass(frozen=True, eq=False)
class Setting:
    """K people over T frames; ``bodies`` may be more than K, where somebody is there twice."""

    #: who stands in each slot
    people: tuple[Person, ...]
    #: ``[T][bodies]``: what each body looks like in each frame
    looks: tuple[tuple[Person, ...], ...]
    #: of each body, in pixels of the frame
    rigs: tuple[Rig, ...]
    #: bodies from the back to the front
    order: tuple[int, ...]
    #: ``[T]``
    scenes: tuple[Scene, ...]
    size: tuple[int, int]
    arrangement: str
    fps: float = world.FPS
    lens: Lens = Lens()

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.looks)

    @property
    def count(self) -> int:
        """Number of people, not of bodies."""
        return len(self.people)


def generator(key: Key, *more: int) -> np.random.Generator:
    """Everything that is drawn for a clip comes from such generators."""
    split = get_args(Split).index(key.split)
    return np.random.default_rng([VERSION, 23, key.people, split, key.group, *more])


def identities(key: Key) -> tuple[int, ...]:
    """The identities of :func:`ipa_bench.embedded.world.person_of` that stand in the slots; groups share nobody."""
    return tuple(FIRST + max(WIDTHS) * key.group + slot for slot in range(key.people))


def people_of(key: Key) -> tuple[Person, ...]:
    """What they look like."""
    return tuple(world.person_of(key.split, identity) for identity in identities(key))


def arrangement_of(key: Key) -> Arrangement:
    """What the people of a clip do, without the rest of its description."""
    return _drawn(generator(key, 1, key.take))


def _drawn(rng: np.random.Generator) -> Arrangement:
    return ARRANGEMENTS[int(rng.choice(len(ARRANGEMENTS)))]


def setting(key: Key, frames: int = world.FRAMES) -> Setting:
    """The description of a clip. Only the test split shows the postures and motions kept for it."""
    rng = generator(key, 1, key.take)
    people = people_of(key)
    arrangement = _drawn(rng)
    scene = look.scene(rng)
    times = np.arange(frames) / world.FPS
    paths = _paths(rng, times, arrangement, key.people)
    unseen = key.split == "test"
    rigs = [
        moved(_gestures(rng, person, times, unseen, arrangement, slot, key.people), path - SIZE / 2)
        for slot, (person, path) in enumerate(zip(people, paths, strict=True))
    ]
    order = tuple(int(slot) for slot in rng.permutation(key.people))
    size = (WIDTHS[key.people], SIZE)
    return Setting(people, (people,) * frames, tuple(rigs), order, (scene,) * frames, size, arrangement)


def _paths(rng: np.random.Generator, times: Float64, arrangement: str, count: int) -> list[Float64]:
    """Where the middle of each person is, ``[T]`` pixels from the left, each."""
    places = PLACES[count]
    paths = [place + gesture.drift(rng, times, 2.0) for place in places]
    one = int(rng.integers(count - 1))
    other = one + 1
    length = times[-1] - times[0] + 1e-9
    progress = gesture.ease(((times - times[0]) / length - rng.uniform(0, 0.15)) / rng.uniform(0.75, 0.85))
    if arrangement == "cross":
        way = places[other] - places[one]
        paths[one], paths[other] = paths[one] + way * progress, paths[other] - way * progress
    elif arrangement == "occlude":
        way = places[other] - places[one] - rng.uniform(*NEAR)
        there = np.sin(np.pi * progress) if rng.random() < 0.5 else progress
        paths[one] = paths[one] + way * there
    return paths


def _gestures(
    rng: np.random.Generator, person: Person, times: Float64, unseen: bool, arrangement: str, slot: int, count: int
) -> Rig:
    """Random gestures in a frame of one's own; where people wave at each other, with the hand that is nearer."""
    while True:
        made = rig(rng, person, times, unseen)
        inner = _INNER_RIGHT if slot < count - 1 else _INNER_LEFT
        if arrangement != "wave" or made.motions[inner].motion == "wave":
            return made


def moved(made: Rig, by: Float64) -> Rig:
    """A rig moved to the right by ``[T]`` pixels."""
    way = np.stack([by, np.zeros_like(by)], -1)
    flat = np.stack([by, np.zeros_like(by), np.zeros_like(by)], -1)
    return replace(
        made,
        chest=made.chest + way,
        head=made.head + way,
        shoulder=made.shoulder + flat[:, None],
        elbow=made.elbow + flat[:, None],
        wrist=made.wrist + flat[:, None],
        hands=made.hands + flat[:, None, None],
        palms=made.palms + flat[:, None, None],
    )


def at(setting: Setting, moments: Sequence[int]) -> Setting:
    """The setting in these frames alone; what people do is that of the whole clip."""
    index = list(moments)
    rigs = tuple(replace(made, **{name: getattr(made, name)[index] for name in ARRAYS}) for made in setting.rigs)
    looks, scenes = tuple(setting.looks[t] for t in index), tuple(setting.scenes[t] for t in index)
    return replace(setting, looks=looks, scenes=scenes, rigs=rigs)


def alone(key: Key, slot: int) -> Setting:
    """One of the people alone in the middle of the clip's scene, the hands elsewhere: the reference picture."""
    whole = setting(key, 1)
    person = whole.people[slot]
    rng = generator(key, 2, key.take, slot)
    made = rig(rng, person, np.zeros(1), False)
    while _hidden(made, person):
        made = rig(rng, person, np.zeros(1), False)
    placed = moved(made, np.full(1, whole.size[0] / 2 - SIZE / 2))
    return replace(
        whole,
        people=(person,),
        looks=((person,),),
        rigs=(placed,),
        order=(0,),
        arrangement="alone",
    )


def _hidden(made: Rig, person: Person) -> bool:
    """Whether a hand of the first frame is in front of the face."""
    away = (made.hands[0, ..., :2] - made.head[0]) / np.array(person.head)
    return bool(np.linalg.norm(away, axis=-1).min() < 1.3)


def prompt(people: tuple[Person, ...]) -> str:
    """A caption of who is there, from the left."""
    return f"{('two', 'three')[len(people) - 2]} people: " + "; ".join(world.prompt(person) for person in people)
