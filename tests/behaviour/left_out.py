"""What is not compared: wall time, memory and speed, which differ from run to run, and where things lie.

Records are compared on one machine, so what names the machine and its libraries stays in: it would explain the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

#: in the place of what is left out; a value that is there stays apart from one that is not
GONE = "…"

#: files whose names hold a time, a process or something random: what stays of the name, and a number in their order
NAMES = (
    (r"(costs/)\d+-\d+-(\w+)(\.json)", r"\1\2-{}\3"),
    (r"((?:scores|floor)/)\d+-\d+-\w+(\.jsonl)", r"\1{}\2"),
    (r"(reference/\w+/)\d+-\w+(\.jsonl)", r"\1{}\2"),
)

#: values of JSON and CSV files: a pattern of the file, a pattern of the value's path
VALUES = (
    # wall time: of videos, phases, steps and measurements
    (r".*", r".*/(process_|clip_)?seconds(/value|/\d+)?"),
    # what of it a processor was busy, and what was waited: costs say both since they can tell
    (r".*", r".*/(cpu|waited)/value"),
    (r".*/costs/.*", r"/(begin|end)"),
    (r"cost/cost\.json", r".*/decode/\d+"),
    (r".*/card\.json", r"/cost/train_seconds"),
    (r".*(run|report)\.json", r".*/created"),
    # memory
    (r".*", r".*/(host|memory)/value"),
    (r".*/card\.json", r"/cost/peak_memory_gb"),
    # the speed of matrix products that was measured, and shares of it
    (r".*", r".*/(possible|peak|peak_share)/value"),
    (r".*", r".*/peaks/[^/]*"),
    (r".*/card\.json", r"/cost/share_of_matmul_peak"),
    # what follows from these
    (r".*/report\.json", r".*/realtime/value"),
    (r".*/costs\.csv", r".*/(device_seconds_per_clip|video_seconds_per_second|(post_training_)?peak_bytes)"),
    (r".*/costs\.csv", r".*/matmul_peak_share"),
    # the hours of an alignment are measured, so what is gained for one is too; those of the suite `three` are given
    (r"align/.*", r".*/(device_hours/value|post_training_device_hours|gain(_per_device_hour|_low|_high))"),
    (r"align/.*", r".*/gain/(value|low|high)"),
    # the version of the program
    (r".*", r".*/(tool_version|ipa-bench)"),
)

_EDGES = (r"(?<![\w.])[-+−]?", r"(?!\w|\.\d)")
NUMBER = _EDGES[0] + r"\d[\d,]*(\.\d+)?(e[-+]?\d+)?" + _EDGES[1]
DECIMAL = _EDGES[0] + r"(\d[\d,]*\.\d+(e[-+]?\d+)?|\d+e[-+]?\d+|\d+(?= %))" + _EDGES[1]
#: parts of texts in which numbers are left out, because they are times, sizes or rates: a pattern of the file, one of
#: the part, one of the numbers. The counts among them are in the JSON files too.
NUMBERS = (
    (r".*/leaderboard\.md", r"(?ms)^## Cost$.*?^(?=## (?!Cost))", NUMBER),
    (r".*/leaderboard\.md", r"(?ms)^### This run$.*?^(?=## )", NUMBER),
    (r".*/report\.html", r'(?s)<section id="cost">.*?</section>', NUMBER),
    (r"said/.*", r"(?m)^cost: .*$", NUMBER),
    (r".*/lora/README\.md", r"(?m)^\| cost .*$", NUMBER),
    (r"said/cost\..*", r"(?s).+", DECIMAL),
    (r"cost/cost\.(md|html)", r"(?s).+", DECIMAL),
)
#: plots of times: a pattern of the file, one of the plot
PLOTS = (
    (r".*/report\.html", r'(?s)(?<=<section id="cost">).*?(?=</section>)'),
    (r"cost/.*", r"(?s).*"),
)
#: words of texts: a pattern of the file, one of the word, what stays of it
WORDS = (
    # wall time of a video
    (r".*/report/data/.*\.js", r'("seconds":)[\d.]+', r"\1" + GONE),
    # the time at which a run was made, and the version of the program
    (r".*", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", GONE),
    (r".*/report\.html", r"(</code>; )\d{4}-\d\d-\d\d", r"\1" + GONE),
    (r".*/leaderboard\.md", r"(?m)^(\| ipa-bench \| )[\d.]+", r"\1" + GONE),
    (r".*/report\.html", r"(<dt>ipa-bench</dt><dd>)[\d.]+", r"\1" + GONE),
)


def compared(file: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared of a file's values."""
    return {
        at: _text(file, value) if at == "text" else GONE if value not in (None, "") and _gone(file, at) else value
        for at, value in values.items()
    }


def _gone(file: str, path: str) -> bool:
    return any(re.fullmatch(f, file) and re.fullmatch(p, path) for f, p in VALUES)


def _text(file: str, content: str) -> str:
    for pattern, part in PLOTS:
        if re.fullmatch(pattern, file):
            content = re.sub(part, lambda m: re.sub(r"(?s)<svg.*?</svg>", f"<svg>{GONE}</svg>", m[0]), content)
    for pattern, part, numbers in NUMBERS:
        if re.fullmatch(pattern, file):
            content = re.sub(part, partial(_without, numbers), content)
    for pattern, word, stays in WORDS:
        if re.fullmatch(pattern, file):
            content = re.sub(word, stays, content)
    return content


def _without(numbers: str, part: re.Match[str]) -> str:
    return re.sub(numbers, GONE, part[0])
