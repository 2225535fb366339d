"""Make the clips of a suite's generative models that are not there yet, in this process or one share of several.

What is missing is known from small files: torch is imported only where there is something to make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipa_bench.cache import digest
from ipa_bench.cost import Phase
from ipa_bench.cost.device import short_name
from ipa_bench.cost.ledger import Ledger
from ipa_bench.engine.processes import Progress
from ipa_bench.errors import Unscorable, UserError
from ipa_bench.files import file_sha256
from ipa_bench.models import kinds
from ipa_bench.models.clips import ClipFolder, MadeModel
from ipa_bench.models.outline import Lora
from ipa_bench.models.specs import BaseSpec, base_spec
from ipa_bench.observers.looker import Looker
from ipa_bench.observers.pose import OBSERVER_ID as DRAWN_BY
from ipa_bench.suite import Suite
from ipa_bench.types import Case

if TYPE_CHECKING:
    import torch

    from ipa_bench.models.base import Base
    from ipa_bench.models.generator import Generator, Sampled


@dataclass(frozen=True)
class Plan:
    """One generative model of a suite, and where its clips lie."""

    spec: BaseSpec
    clips: ClipFolder

    @property
    def source(self) -> str:
        """The model in one line: checkpoint and settings."""
        return kinds.base_kind(self.spec).source(self.spec, self.clips.recipe)

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions may change a clip."""
        return kinds.base_kind(self.spec).packages

    @property
    def model(self) -> MadeModel:
        """The model as those see it who only want its finished clips."""
        return MadeModel(self.spec.name, self.clips)


@dataclass(frozen=True)
class Outcome:
    """Clips of this process's share: made now, there already, and those that could not be made."""

    made: int
    kept: int
    failed: int


def plans(suite: Suite, folder: Path) -> dict[str, Plan]:
    """Model name -> plan, for each generative model; clips go into ``folder/videos/NAME``.

    Raises :class:`UserError` where a checkpoint is not there (one of the hub is downloaded), or where clips lie that
    were made otherwise. Reads the checkpoint's files, not its weights' values.
    """
    found = {}
    for spec in filter(None, map(base_spec, suite.models)):
        kind = kinds.base_kind(spec)
        recipe = kind.recipe(spec, kind.locate(spec))
        found[spec.name] = Plan(spec, ClipFolder(folder / "videos" / spec.name, recipe, DRAWN_BY))
    return found


def generate(
    suite: Suite,
    folder: Path,
    *,
    progress: Progress = lambda *_: None,
    known: Mapping[str, Plan] | None = None,
    share: tuple[int, int] = (0, 1),
    device: torch.device | None = None,
) -> Outcome:
    """Make every clip of the suite's generative models that ``folder`` does not hold yet, each kept when it is done.

    ``known`` are the :func:`plans` where they have been made; ``share`` (i, n): this process makes every n-th clip from
    the i-th on; ``device``: CUDA where there is any, unless one is given. A clip that cannot be made is noted with its
    reason. Raises :class:`UserError` as :func:`plans` does, and where a model cannot be loaded or memory is too small.
    """
    known = plans(suite, folder) if known is None else known
    todo: dict[str, list[tuple[Case, int]]] = {}
    kept = 0
    for plan in known.values():
        plan.clips.open()
        jobs = [(case, seed) for case in suite.cases for seed in suite.seeds]
        missing = [job for job in jobs[share[0] :: share[1]] if not _is_done(plan, *job)]
        kept += len(jobs[share[0] :: share[1]]) - len(missing)
        todo[plan.spec.name] = missing
    total = sum(map(len, todo.values()))
    progress("generate", 0, total)
    if not total:
        return Outcome(0, kept, 0)
    failed, count = 0, 0
    for model, ledger in _loaded([plan for plan in known.values() if todo[plan.spec.name]], folder, device):
        with ledger.phase("generate", unit="clip", dtype=short_name(model.base.dtype)) as phase:
            for made in model.generate_many(todo[model.name]):
                failed, count = failed + (made.path is None), count + 1
                if made.sampled is not None:
                    count_flops(phase, model, made.sampled)
                ledger.tick()
                progress("generate", count, total)
    return Outcome(count - failed, kept, failed)


def count_flops(phase: Phase, model: Generator, sampled: Sampled, adapter: Lora | None = None) -> None:
    """Count a clip and what denoising it took, text encoder and VAE left out. ``adapter``: one that is not merged."""
    outline, spec = model.base.outline, model.spec
    steps = spec.steps * sampled.segments
    tokens = steps * outline.passes(spec.guidance) * outline.tokens(sampled.shape)
    flops = outline.sample_flops(sampled.shape, steps, spec.guidance, adapter)
    phase.add(1, tokens=tokens, video_seconds=sampled.seconds, flops=flops)


def generate_share(suite: Suite, folder: Path, *, progress: Progress = lambda *_: None) -> Outcome:
    """:func:`generate` as one of the processes that ``accelerate launch`` starts, each on a device of its own.

    A process that was started alone makes everything.
    """
    import torch
    from accelerate import PartialState

    state: Any = PartialState(cpu=not torch.cuda.is_available())
    try:
        device = state.device if state.device.type == "cuda" else None
        share = (state.process_index, state.num_processes)
        return generate(suite, folder, progress=progress, share=share, device=device)
    finally:
        state.destroy_process_group()


def _is_done(plan: Plan, case: Case, seed: int) -> bool:
    try:
        return plan.clips.find(case, seed) is not None
    except Unscorable:
        return True  # noted with its reason; the same inputs would fail again


def _loaded(wanted: Sequence[Plan], folder: Path, device: torch.device | None) -> Iterator[tuple[Generator, Ledger]]:
    """The models one after the other, each with its sheet; neighbours that differ in how they are sampled share the
    weights, and those that differ in their LoRA what cases give them.
    """
    from ipa_bench.models.generator import Generator
    from ipa_bench.models.shelf import Shelf, like

    poses = Poses(folder / "poses")
    base: Base | None = None
    loaded: tuple[object, ...] | None = None
    shelf, kind = Shelf(), None
    for plan in wanted:
        spec, drawn_by = plan.spec, plan.clips.drawn_by
        if spec.loaded != loaded:
            base = None  # freed before the next is loaded
        if like(spec) != kind:
            shelf, kind = Shelf(), like(spec)
        ledger = Ledger(folder, spec.name)
        model = Generator(
            spec, plan.clips.folder, pose_of=poses.of, drawn_by=drawn_by, device=device, base=base, shelf=shelf,
            encoding=partial(_encoding, ledger),
        )  # fmt: skip
        yield model, ledger
        base, loaded = model.base, spec.loaded


@contextmanager
def _encoding(ledger: Ledger) -> Iterator[None]:
    """Encoding a case has a phase of its own: only the first of models that share it does it, and their clips cost
    the same.
    """
    with ledger.meter.phase("encode", unit="clip") as phase:
        yield
        phase.add(1)


class Poses:
    """Pose videos of cases that have none, drawn from their driving clips once and kept in the run folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looker = Looker()

    def of(self, case: Case) -> Path:
        """The pose video; of several people from their pose tracks.

        Raises Unscorable where the driving clip shows nobody, is too short or does not decode, and where one of several
        people has no track: an estimator of one person's pose does not tell them apart.
        """
        from ipa_bench.models.poses import write_pose, write_tracks

        asked: dict[str, Any] = {"size": case.size, "fps": case.fps, "frames": case.frames}
        several = len(case.references) > 1
        if several and (without := sorted({name for name, _ in case.references} - {name for name, _ in case.poses})):
            raise Unscorable(f"the case has no pose video, and no pose track of {', '.join(without)}")
        sources = [path for _, path in case.poses] if several else [case.driving]
        key = digest(*map(file_sha256, sources), DRAWN_BY, *asked.values())
        path = self._folder / f"{case.id}.{key[:8]}.mp4"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                if several:
                    write_tracks(sources, path, **asked)
                else:
                    write_pose(case.driving, path, self._looker, **asked)
            except UserError as error:
                raise Unscorable(error.problem) from error
        return path
