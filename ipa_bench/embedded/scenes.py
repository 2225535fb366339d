"""The scenes of the built-in world by their names, whichever of its parts renders them."""

from __future__ import annotations

from ipa_bench.embedded import world
from ipa_bench.embedded.group.setting import key_of


def people_in(text: str) -> int:
    """How many people a scene shows. Raises :class:`UserError` where there is no such scene."""
    if text.startswith(world.STAGE):
        world.scene_of(text)
        return 1
    return key_of(text).people
