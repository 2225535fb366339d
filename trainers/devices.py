"""What a run computes on: devices, the processes that share it, and where networks are while it does not need them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from ipa_bench.errors import UserError
from ipa_bench.models.base import Base
from trainers import ranks
from trainers.config import TrainTable
from trainers.ranks import Ranks
from trainers.shard import Sharded
from trainers.spent import Away

#: that processes wait for each other: encoding and looking take one longer than another
WAIT = timedelta(hours=4)
_NO_TRACKER = "install it, or leave it out of train.trackers"


def together() -> Ranks:
    """The processes of this run, before any of them computes; from here on they wait for each other.

    One, where nobody started several, and where accelerate has to say first what it lacks.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        return Ranks()
    from accelerate import PartialState

    try:
        state: Any = PartialState(cpu=not torch.cuda.is_available(), timeout=WAIT)
    except (ImportError, ValueError):
        return Ranks()
    return Ranks(state.process_index, state.num_processes)


def check_trackers(wanted: Sequence[str]) -> None:
    """Raise :class:`UserError` for a tracker that accelerate does not know or that is not installed."""
    if not wanted:
        return
    from accelerate import tracking

    known = sorted(map(str, tracking.LOGGER_TYPE_TO_CLASS))
    there = {str(tracker) for tracker in tracking.get_available_trackers()}
    for name in wanted:
        if name not in known:
            raise UserError(f"train.trackers: there is no tracker {name!r}", f"known: {', '.join(known)}")
        if name not in there:
            raise UserError(f"train.trackers: {name} is not installed", _NO_TRACKER)


def accelerator(config: TrainTable, out: Path, about: Mapping[str, str]) -> Any:
    """Devices, precision, processes and trackers, which are told ``about`` the run.

    Raises :class:`UserError` for a tracker that does not start, and for a way to divide a run that is not supported.
    """
    from accelerate import Accelerator
    from accelerate.utils import AutocastKwargs, InitProcessGroupKwargs

    wanted = list(config.trackers)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`log_with=")  # they are there: prepare has looked
            found: Any = Accelerator(
                cpu=not torch.cuda.is_available(),
                mixed_precision="bf16" if config.precision == "bf16" else "no",
                log_with=wanted or None,
                project_dir=str(out),
                # What autocast would remember of divided weights is as much as all of them.
                kwargs_handlers=[
                    InitProcessGroupKwargs(timeout=WAIT),
                    AutocastKwargs(cache_enabled=False if config.shard else None),
                ],
            )
        ranks.check(found.distributed_type.value)
        found.init_trackers("ipa-bench", config=dict(about))
    except (ImportError, ValueError) as error:
        raise UserError(f"train.trackers: {error}", _NO_TRACKER) from None
    return found


def ranks_of(accelerator: Any) -> Ranks:
    """This process among all of the run."""
    return Ranks(accelerator.process_index, accelerator.num_processes)


def whole(base: Base, accelerator: Any, *, shard: bool) -> Callable[[], AbstractContextManager[None]]:
    """A context in which all networks are whole, and where they are needed. Until then frozen weights are divided
    with ``shard``, and what is not trained is away: on a CPU there is no other memory for it.
    """
    sharded = Sharded(base) if shard and accelerator.num_processes > 1 else None
    away = Away(base.aside, accelerator.device) if accelerator.device.type == "cuda" else None

    @contextmanager
    def entered_whole() -> Iterator[None]:
        with ExitStack() as entered:
            if sharded is not None:
                entered.enter_context(sharded.together())
            if away is not None:
                entered.enter_context(away.back())
            yield

    return entered_whole
