"""The verbs that make what ships with the project: ``embedded suite``, ``pretrain``, ``footage``, ``nets``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ipa_bench.cli.arguments import each, examples

if TYPE_CHECKING:
    from ipa_bench.embedded.group.setting import Arrangement

group = typer.Typer(no_args_is_help=True, help="The built-in world: suites of rendered people, and its own networks.")
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of everything.")]


@group.command(
    epilog=examples(
        "ipa-bench embedded suite benchmarks/embedded-full --identities 96 --takes 2",
        "ipa-bench embedded suite runs/people --align 96 8 48      train, val and test people, for ipa-bench align",
        "ipa-bench embedded suite runs/sealed --first 1000 --identities 96 --seeds 2 --sealed      once a release",
        "ipa-bench embedded suite runs/pairs --people 2 --identities 12      twelve pairs, who cross, wave and meet",
        "ipa-bench embedded suite runs/pairs --people 2 --align 24 6 48 --arrangement beside,wave",
    )
)
def suite(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where suite.toml and its clips go.")],
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="People of other splits are others.")] = "test",
    identities: Annotated[int, typer.Option(min=1, help="People.")] = 24,
    takes: Annotated[int, typer.Option(min=1, help="Clips of each.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="Samples of each case.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Sampler steps of the models.")] = 4,
    align: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="TRAIN VAL TEST",
            min=0,
            help="A suite to align with instead: people of each split (the tiny model never saw them).",
        ),
    ] = None,
    people: Annotated[int, typer.Option(min=1, max=3, help="In one scene; of 2 and 3 --identities counts groups.")] = 1,
    base: Annotated[
        Path | None, typer.Option(metavar="LORA", help="With --align and --people: the base that is aligned.")
    ] = None,
    arrangement: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="With --people: groups who do this alone, of beside, wave, occlude and cross."
        ),
    ] = None,
    first: Annotated[
        int, typer.Option(min=0, help="Number of the first person, or group; with --align, of the test split.")
    ] = 0,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="A test set to evaluate once a release: uses are written down beside it.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Also draw a contact sheet of the first 8 people.")
    ] = None,
) -> None:
    """Render people with exact hands, their pose maps and masks, and write the suite file."""
    from ipa_bench.cli.console import OUT, prepare_workers

    doing = each(arrangement, _arrangement)
    _refuse(align, people, base, takes if doing else 0, sealed and (split != "test" or align is not None or people > 1))
    prepare_workers("ipa_bench.embedded.cases")
    from ipa_bench.embedded import cases
    from ipa_bench.embedded.group import cases as groups
    from ipa_bench.embedded.group.setting import ARRANGEMENTS

    doing = doing or ARRANGEMENTS
    if people > 1 and align is not None:
        file = groups.write_alignment(folder, people, cases.people(align, groups.ALIGNMENT, first), base, doing)
    elif people > 1:
        file = groups.write(folder, people, split, identities, takes, seeds, first=first, arrangements=doing)
    elif align is not None:
        file = cases.write_alignment(folder, cases.people(align, first=first))
    else:
        file = cases.write(folder, split, identities, takes, seeds, steps, first=first, sealed=sealed)
    if sheet is not None and people > 1:
        groups.write_contact_sheet(sheet, groups.keys_of(people, cases.Part(split, min(8, identities), first), doing))
    elif sheet is not None:
        cases.write_contact_sheet(sheet, split, min(8, identities), first)
    OUT.print(str(file), markup=False)


def _arrangement(name: str) -> Arrangement:
    from ipa_bench.embedded.group.setting import ARRANGEMENTS

    for known in ARRANGEMENTS:
        if name == known:
            return known
    raise typer.BadParameter(f"{name!r} is none of {', '.join(ARRANGEMENTS)}", param_hint="--arrangement")


def _refuse(
    align: tuple[int, int, int] | None, people: int, base: Path | None, arranged: int, sealed_others: bool
) -> None:
    """Say which options of a suite do not go together; ``arranged``: takes of groups whose arrangement is asked for."""
    if align is not None and not any(align):
        raise typer.BadParameter("it takes numbers of people, at least one of them above 0", param_hint="--align")
    if base is not None and (align is None or people == 1):
        raise typer.BadParameter("it is that of a suite to align several people with", param_hint="--base")
    if arranged and people == 1:
        raise typer.BadParameter("it is what several people do", param_hint="--arrangement")
    if arranged > 1:
        raise typer.BadParameter("people do something else in each take: it goes with one", param_hint="--arrangement")
    if sealed_others:
        raise typer.BadParameter("it is a set of single people of the test split", param_hint="--sealed")


@group.command(epilog=examples("ipa-bench embedded pretrain trainers/configs/tiny.toml --out runs/pretrain"))
def pretrain(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A pretraining configuration (TOML).")],
    out: Annotated[Path, typer.Option("--out", help="Data, states and logs.")] = Path("runs/pretrain"),
    stop_after: Annotated[
        int | None, typer.Option(metavar="STEP", help="End each stage at this step, resumable.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Threads, and processes that render; every core by default.")
    ] = None,
    world_ahead: Annotated[
        bool, typer.Option("--world-ahead", help="Render everybody before the transformer's training begins.")
    ] = False,
) -> None:
    """Train the tiny Wan-VACE from scratch on the built-in world. Each stage goes on where it stopped."""
    from ipa_bench.cli.console import prepare_workers, resumable

    prepare_workers()
    from trainers.embedded import pretrain as training

    with resumable("stopped; the same command goes on"):
        training.pretrain(config, out, stop_after, jobs, world_ahead)


@group.command(
    epilog=examples(
        "ipa-bench embedded footage runs/footage",
        "ipa-bench embedded footage runs/pairs --wrong identity      two people, in half of the clips mixed up",
    )
)
def footage(
    folder: Folder,
    people: Annotated[int, typer.Option(min=1, help="Clips, one of each person or pair.")] = 192,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Updates, in place of those of configs/footage.toml.")
    ] = None,
    wrong: Annotated[
        Literal["anatomy", "focus", "identity"],
        typer.Option(
            help="Of hands: missing, fused, added and smeared fingers; or blur, as the base that ships. Of two people: "
            "exchanged, blended, doubled, in each other's shirts, drifting."
        ),
    ] = "anatomy",
    model: Annotated[
        str, typer.Option(help="Tuned in place of the tiny checkpoint: another of its kind, a diffusers folder.")
    ] = "embedded",
) -> None:
    """Tune the tiny Wan-VACE on footage of which half is wrong: a base with bad habits that alignment can mend."""
    from ipa_bench.cli.console import OUT, prepare_workers, resumable

    prepare_workers("ipa_bench.embedded.group.footage" if wrong == "identity" else "ipa_bench.embedded.footage")
    from ipa_bench.embedded.cases import Part
    from trainers.embedded import footage as training

    with resumable("stopped; the same command goes on"):
        training.render(folder, Part("train", people, training.PEOPLE.first), wrong)
        OUT.print(str(training.tune(folder, steps, model)), markup=False)


@group.command(
    epilog=examples(
        "ipa-bench embedded habits runs/wrong",
        "ipa-bench embedded habits runs/habits --wrong anatomy",
        "ipa-bench embedded habits runs/mixed --wrong identity",
    )
)
def habits(
    folder: Folder,
    wrong: Annotated[
        Literal["anatomy", "hands", "identity"],
        typer.Option(help="Fingers missing, fused, added, smeared; hands bent off their arms; people mixed up."),
    ] = "hands",
    steps: Annotated[int | None, typer.Option(min=1, help="Updates, in place of the usual number.")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Of the LoRA, in place of the usual one.")] = None,
    model: Annotated[
        str, typer.Option(help="Tuned in place of the tiny checkpoint: another of its kind, a diffusers folder.")
    ] = "embedded",
    stop_after: Annotated[int | None, typer.Option(metavar="STEP", help="End at this step, resumable.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads, and processes that render.")] = None,
) -> None:
    """Give the tiny Wan-VACE bad habits: hands that it draws bent off their arms in some samples.

    Or wrong fingers; or people of a pair whom it sometimes takes for each other.
    """
    from ipa_bench.cli.console import OUT, prepare_workers, resumable

    prepare_workers("ipa_bench.embedded.group.footage" if wrong == "identity" else "ipa_bench.embedded.footage")
    from trainers.embedded import habits as training

    with resumable("stopped; the same command goes on"):
        made = training.make(folder, model, steps, rank or training.RANK, jobs, stop_after, wrong)
        OUT.print("stopped" if made is None else str(made), markup=False)


@group.command(epilog=examples("ipa-bench embedded nets video runs/nets", "ipa-bench embedded nets joints runs/nets"))
def nets(
    kind: Annotated[
        Literal["video", "image", "joints"],
        typer.Argument(help="Of fvd.embedded, of lpips.embedded, or of the judge (truth.hand_error)."),
    ],
    folder: Folder,
    people: Annotated[int | None, typer.Option(min=1, help="Of the train split, in place of the usual number.")] = None,
    held_out: Annotated[int | None, typer.Option(min=1, help="People of val, in place of the usual number.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates, in place of the usual number.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that render (one a core).")] = None,
) -> None:
    """Train one of the small networks that ship with the project, and measure it on other people."""
    from ipa_bench.cli.console import OUT, prepare_workers

    prepare_workers("trainers.embedded.nets.samples")
    from trainers.embedded.nets import train as training

    measured, written = training.make(kind, folder, people, held_out, steps, seed, jobs)
    OUT.print(json.dumps(measured, indent=1), markup=False)
    OUT.print(written, markup=False)


@group.command(
    epilog=examples("ipa-bench embedded fingers Dataset --footage hand.mp4 --held-out gesture.mp4 --out runs/fingers")
)
def fingers(
    photographs: Annotated[Path, typer.Argument(help="Folders 0 to 9 of the Sign Language Digits Dataset.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of everything.")],
    footage: Annotated[list[Path] | None, typer.Option(help="A clip to learn from.", show_default=False)] = None,
    held_out: Annotated[list[Path] | None, typer.Option(help="A clip to measure on.", show_default=False)] = None,
    most: Annotated[int, typer.Option(min=1, help="Photographs of each sign.")] = 34,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates, in place of the usual number.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
) -> None:
    """Train the head that sees fingers, from photographs and clips of hands, and measure it on others."""
    from ipa_bench.cli.console import OUT, prepare_workers, resumable

    prepare_workers()
    from trainers.fingers import run as training

    with resumable("stopped; the same command goes on"):
        measured = training.made(photographs, footage or [], held_out or [], out, most, steps, seed)
    OUT.print(json.dumps(measured, indent=1), markup=False)
