"""The application and its ``main``. Each verb imports what it needs when it runs, so that ``--help`` is instant."""

from __future__ import annotations

import sys

import typer

from ipa_bench.cli import cost, doctor, embedded, lora, pose, reward, run, score, train, weights
from ipa_bench.errors import Unscorable, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Score human-animation videos, compare models with paired intervals, choose clips to post-train on.",
)
#: verbs in the order of the help, and the end of each one's own help
VERBS = (
    (run.run, run.RUN),
    (run.generate, run.GENERATE),
    (run.report, None),
    (score.score, score.SCORE),
    (score.validate, score.VALIDATE),
    (score.metrics, None),
    (score.select, score.SELECT),
    (train.train, train.TRAIN),
    (train.align, train.ALIGN),
    (train.ablation, train.ABLATION),
    (cost.cost, cost.COST),
    (pose.pose, pose.POSE),
    (doctor.doctor, None),
)
GROUPS = {"lora": lora.group, "reward": reward.group, "weights": weights.group, "embedded": embedded.group}

for _verb, _examples in VERBS:
    app.command(epilog=_examples)(_verb)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


def main() -> None:
    """Entry point: expected failures are one line and status 2 (typer gives Ctrl-C 130), anything else a traceback."""
    from ipa_bench.cli.console import prepare_streams

    prepare_streams()
    try:
        app()
    except UserError as error:
        print(f"error: {error.problem}", file=sys.stderr)
        if error.fix:
            print(f"  fix: {error.fix}", file=sys.stderr)
        sys.exit(2)
    except Unscorable as error:
        print(f"error: {error.reason}", file=sys.stderr)
        sys.exit(1)
