"""``python -m tests.behaviour``: record what a source tree does, and compare two records."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.behaviour import comparing, material, reading, sample, steps
from tests.behaviour.tree import Tree

ROOT = Path(__file__).resolve().parents[2]
#: always the same: tables and messages break at the same places, and keys in which a message counts are the same
WORK = Path(tempfile.gettempdir(), "ipa-bench-behaviour")


def footage() -> Path:
    """The folder of real footage, as the tests find it."""
    return Path(os.environ.get("IPA_BENCH_MEDIA") or ROOT.parent / "shared" / "media")


@contextmanager
def workplace(source: Path, python: Path, keep: bool) -> Iterator[Tree]:
    """A source tree with an empty folder to work in."""
    try:
        WORK.mkdir()
    except FileExistsError:
        raise SystemExit(f"{WORK} is there: another record is being made, or was not ended: delete it") from None
    try:
        tree = Tree(source.resolve(), python.absolute(), WORK)
        tree.fill_cache()
        yield tree
    finally:
        if keep:
            print(f"kept: {WORK}", file=sys.stderr)
        else:
            shutil.rmtree(WORK)


def record(source: Path, python: Path, media: Path, names: Sequence[str] = (), keep: bool = False) -> dict[str, Any]:
    """Run the steps named, or all, on a source tree: every value that was printed or written, by file."""
    with workplace(source, python, keep) as tree:
        material.write(tree.work / "material", media, tree.package())
        took = {}
        for name in steps.chosen(list(names)):
            begin, busy = time.monotonic(), _busy()
            steps.STEPS[name](tree)
            took[name] = [round(time.monotonic() - begin, 1), round(_busy() - busy, 1)]
            print(f"{name}: {took[name][0]} s, {took[name][1]} s of a core", file=sys.stderr, flush=True)
        files = reading.read(tree.work, {str(tree.work): "WORK", str(tree.source): "SOURCE"})
    return {"source": str(tree.source), "seconds": took, "files": files}


def _busy() -> float:
    """Seconds of a core that ended processes took."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def compare(one: dict[str, Any], other: dict[str, Any]) -> int:
    """Print what differs; 1 where something does."""
    found = list(comparing.differences(one["files"], other["files"]))
    for line in found:
        print(line)
    print(comparing.summary(one["files"], other["files"], len(found)))
    return int(bool(found))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.behaviour", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    make = verbs.add_parser("record", help="run a source tree on small input and keep all that it prints and writes")
    old = verbs.add_parser("sample", help="make the folders that later versions must go on with")
    for verb, out in ((make, "the record (JSON)"), (old, "where the folders are to be kept")):
        verb.add_argument("out", type=Path, help=out)
        verb.add_argument("--source", type=Path, default=ROOT, help="the source tree (this one)")
        verb.add_argument("--python", type=Path, default=Path(sys.executable), help="an interpreter with what it needs")
        verb.add_argument("--keep", action="store_true", help="keep the folder in which the commands were run")
    make.add_argument("--media", type=Path, default=footage(), help="real footage ($IPA_BENCH_MEDIA, ../shared/media)")
    make.add_argument("--only", nargs="+", default=[], choices=list(steps.STEPS), help="these, and what they need")
    both = verbs.add_parser("compare", help="name every file and value that differs; exit status 1 where one does")
    both.add_argument("one", type=Path)
    both.add_argument("other", type=Path)
    given = parser.parse_args()
    if given.verb == "compare":
        return compare(json.loads(given.one.read_bytes()), json.loads(given.other.read_bytes()))
    if given.verb == "sample":
        with workplace(given.source, given.python, given.keep) as tree:
            sample.write(tree, given.out)
        return 0
    found = record(given.source, given.python, given.media, given.only, given.keep)
    given.out.write_text(json.dumps(found, indent=0, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
