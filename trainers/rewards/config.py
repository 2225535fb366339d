"""``[reward]`` of a configuration: the rewards that a model is trained by, and how they are added up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict

from ipa_bench.config.fields import Items, Positive, StrictTable, Words
from ipa_bench.errors import UserError

Scale = Literal["group", "raw"]


def _known(name: str) -> str:
    from trainers.rewards import check_name  # brings in the scorer

    try:
        check_name(name)
    except UserError as error:
        raise ValueError(error.reason) from None
    return name


class TermConfig(StrictTable):
    """``[[reward.term]]``: one reward and how much it counts."""

    #: as :func:`trainers.rewards.find` knows it: a metric that is not sealed, or ``KIND:WHAT``
    reward: Annotated[Words, AfterValidator(_known)]
    weight: Positive = 1.0
    #: As good as this is good enough, in the reward's own unit: only what is missing to it counts. That makes a penalty
    #: of a metric that is not to be raised but kept, such as ``rest.psnr`` on the rest of the frame.
    enough: Annotated[float, Strict(), Field(allow_inf_nan=False)] | None = None


class RewardConfig(StrictTable):
    """What clips are rewarded by: the weighted sum of the terms."""

    #: ``group``: each term in standard deviations of the clips of a case, so that weights do not depend on units;
    #: ``raw``: as it is, its sign turned where lower is better
    scale: Scale = "group"
    term: Annotated[Items[TermConfig], Field(min_length=1)]

    def placed(self, folder: Path) -> RewardConfig:
        """With what terms name behind their kind found in ``folder``, where it lies there."""

        def there(name: str) -> str:
            kind, colon, what = name.partition(":")
            return f"{kind}:{folder / what}" if colon and what and (folder / what).exists() else name

        terms = tuple(each.model_copy(update={"reward": there(each.reward)}) for each in self.term)
        return self.model_copy(update={"term": terms})
