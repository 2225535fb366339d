"""The methods of post-training: a literal table, and a file for each of what it minimises.

The table is read wherever the project must know methods apart: the choices of the command line, configurations, what
is selected and encoded, the sweep of costs, FLOPs, cards. A new method is one file and one line here. Reading the table
loads no torch; a method's file does, and is imported by the first step that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

__all__ = ["METHODS", "Method", "MethodName", "Recipe", "Variant", "find", "recipes"]

#: how the sweep of costs measures a method: the reference's errors computed, known, or by a copied model with a pass
#: of its own, as published
Variant = Literal["computed", "known", "published"]
#: What a method goes through, one at a time: each is a file that ``ipa-bench select`` writes, but for the steps of the
#: sampler, which only clips have that the trained model has just made. Candidates may be made so too.
Takes = Literal["clips", "pairs", "candidates", "steps"]
_FILES: dict[Takes, str] = {"clips": "selection.json", "pairs": "pairs.json", "candidates": "candidates.json"}
_UNITS: dict[Takes, str] = {"clips": "clip", "pairs": "pair", "candidates": "clip", "steps": "step"}


@dataclass(frozen=True)
class Method:
    """What the rest of the project knows of a method.

    Its file ``trainers/methods/NAME.py`` has ``loss(step)``, and where it needs them: ``Options``, the keys of
    ``[methods.NAME]``; ``values(cases, scores, options)``, a number for each scored candidate that it is trained on, or
    None for one to leave out; ``keep(update, options)``, how its old policy follows.
    """

    name: str
    #: as tables write it
    title: str
    #: one line
    help: str
    takes: Takes
    #: whether the loss needs the frozen reference's error of each clip, which does not change and may be remembered
    reference: bool
    #: whether an old policy stands beside the trained one, with a pass of its own for each clip
    old: bool = False
    #: how the sweep of costs measures it; none: it costs what another method does
    variants: tuple[Variant, ...] = ("computed",)

    @property
    def clips(self) -> int:
        """Clips of one item: each has a pass that is differentiated and, with a reference, one that is not."""
        return 2 if self.takes == "pairs" else 1

    @property
    def unit(self) -> str:
        """What one item is called."""
        return _UNITS[self.takes]

    @property
    def file(self) -> str | None:
        """Name of the selection that it is trained on, where it can be."""
        return _FILES.get(self.takes)

    @property
    def online(self) -> bool:
        """Whether it can learn from clips that are made and rewarded as training goes on."""
        return self.takes in ("candidates", "steps")

    @property
    def loss(self) -> Callable[[Any], Any]:
        """``Step -> (loss, metrics)``; see :class:`trainers.methods.objective.Step`. Loads torch."""
        found: Callable[[Any], Any] = self._file.loss
        return found

    @property
    def options(self) -> Any:
        """Its pydantic model of ``[methods.NAME]``, or None. Loads torch."""
        return getattr(self._file, "Options", None)

    @property
    def values(self) -> Callable[[Sequence[str], Sequence[float], Any], list[float | None]] | None:
        """What a candidate's score becomes, or None. Loads torch."""
        return getattr(self._file, "values", None)

    @property
    def keep(self) -> Callable[[int, Any], float | None] | None:
        """How the old policy follows, or None. Loads torch."""
        return getattr(self._file, "keep", None)

    @property
    def _file(self) -> Any:
        return import_module(f"{__name__}.{self.name}")


METHODS: tuple[Method, ...] = (
    Method("sft", "SFT", "Flow matching on good clips.", takes="clips", reference=False),
    Method(
        "ipa",
        "IPA",
        "Good clips against the reference, without pairs.",
        takes="clips",
        reference=True,
        variants=("computed", "known", "published"),
    ),
    Method("dpo", "DPO", "Good against bad clips of a case.", takes="pairs", reference=True),
    # costs what SFT does
    Method(
        "wsft",
        "weighted SFT",
        "All candidates, the better of a case weighing more.",
        takes="candidates",
        reference=False,
        variants=(),
    ),
    # costs what IPA does whose reference is computed
    Method(
        "nft",
        "NFT",
        "All candidates: toward the better, away from the worse of a case.",
        takes="candidates",
        reference=False,
        old=True,
        variants=(),
    ),
    # its costs are counted, not measured: a round is sampling and updates
    Method(
        "grpo",
        "GRPO",
        "Own clips, sampled with noise: likelier steps toward the better of a case.",
        takes="steps",
        reference=False,
        variants=(),
    ),
)

if TYPE_CHECKING:
    MethodName = str
else:
    #: a name of the table, for pydantic and the command line
    MethodName = Literal[tuple(method.name for method in METHODS)]


def find(name: str) -> Method:
    """The method of a name. Raises KeyError for one that the table lacks."""
    return {method.name: method for method in METHODS}[name]


@dataclass(frozen=True)
class Recipe:
    """A method as the sweep of costs measures it."""

    #: in a sweep and in a sheet: ``ipa``, ``ipa-cached``, ``published``
    name: str
    #: as tables write it
    title: str
    method: Method
    variant: Variant


def recipes() -> tuple[Recipe, ...]:
    """What a sweep can measure of training: the table's methods in its order, then the recipe as published."""
    ours = [_recipe(m, v) for m in METHODS for v in m.variants if v != "published"]
    return (*ours, *(_recipe(m, "published") for m in METHODS if "published" in m.variants))


def _recipe(method: Method, variant: Variant) -> Recipe:
    if variant == "published":
        return Recipe("published", f"{method.title} as published (copied reference)", method, variant)
    if variant == "known":
        return Recipe(f"{method.name}-cached", f"{method.title}, reference known", method, variant)
    apart = ", reference computed" if "known" in method.variants else ""
    return Recipe(method.name, method.title + apart, method, variant)
