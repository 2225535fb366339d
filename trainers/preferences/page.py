"""The page on which people vote: static, two clips side by side in step, keys, and a file in the end."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ipa_bench.files import write_atomic
from trainers.preferences.votes import Comparisons

NAME = "votes.html"


def write(comparisons: Comparisons, file: Path) -> Path:
    """Write the page beside ``file``, the comparisons it asks about; clips and pictures stay where they are.

    Every name in it is text. Only its own script runs, known by its hash, and nothing is fetched from elsewhere.
    """
    here = files("trainers.preferences")
    script = (here / "votes.js").read_text(encoding="utf-8")
    rows = [
        {
            "id": each.id,
            "a": quote(each.a),
            "b": quote(each.b),
            "references": [[name, quote(picture)] for name, picture in each.references.items()],
        }
        for each in comparisons.comparisons
    ]
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    data = json.dumps({"file": digest[:16], "comparisons": rows}).replace("<", "\\u003c")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string((here / NAME).read_text(encoding="utf-8")).render(
        title=file.stem,
        style=Markup((files("ipa_bench.report") / "templates" / "style.css").read_text(encoding="utf-8")),
        data=Markup(data),  # JSON in which no tag can begin
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    path = file.with_name(NAME)
    write_atomic(path, page.encode())
    return path
