"""What a run leaves behind: one JSON a benchmark and day, and the latest of each in one file."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.result import Result

LATEST = "latest.json"


def keep(
    results: Sequence[Result], out: Path, facts: dict[str, Any], when: datetime.datetime
) -> None:
    """Writes ``<name>-<date>.json`` for each, and brings ``latest.json`` up to date.

    ``latest.json`` keeps the earlier figures of benchmarks that this run left out, each with its
    own date, because a run of one benchmark must not lose the others.
    """
    out.mkdir(parents=True, exist_ok=True)
    latest = out / LATEST
    known: dict[str, Any] = json.loads(latest.read_text()) if latest.exists() else {}
    for result in results:
        document = {"when": when.isoformat(timespec="seconds"), **facts, **result.document()}
        known[result.name] = document
        _write(out / f"{result.name}-{when:%Y-%m-%d}.json", document)
    _write(latest, known)


def _write(path: Path, document: dict[str, Any]) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(document, indent=1) + "\n")
    draft.replace(path)
