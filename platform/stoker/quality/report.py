"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

import math
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from stoker.nouns.quantity import format_bytes
from stoker.quality import plots
from stoker.quality.result import CandidateResult, Interval, MetricResult, QualityRun

DIFFERING_SHOWN = 10
"""Items a recipe: what a person reads before the pattern is clear."""


def write_report(run: QualityRun, path: Path) -> Path:
    """Writes the report of a run; whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    page = render(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    return path


def render(run: QualityRun) -> str:
    """The report as HTML."""
    environment = Environment(
        loader=PackageLoader("stoker.quality", "."),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": _bytes,
        "ms": _milliseconds,
        "number": number,
        "signed": _signed,
        "fraction": _fraction,
        "interval": _interval,
        "when": _when,
        "yaml": _yaml,
        "clip": _clip,
    }
    return environment.get_template("report.html.j2").render(
        run=run,
        everyone=(run.reference, *run.candidates),
        metrics=_metrics(run),
        batches=_batches(run),
        of=_of,
        front=Markup(plots.front(run)),  # noqa: S704 - matplotlib's SVG, which escapes its texts
        differences=Markup(plots.differences(run)),  # noqa: S704
        shown=DIFFERING_SHOWN,
    )


def _metrics(run: QualityRun) -> list[tuple[str, str]]:
    """(set, metric) in the order in which they were declared."""
    everyone = (run.reference, *run.candidates)
    return list(dict.fromkeys((m.set, m.metric) for one in everyone for m in one.metrics))


def _batches(run: QualityRun) -> list[str]:
    everyone = (run.reference, *run.candidates)
    found = {size for one in everyone if one.measured for size in one.measured.latency_ms}
    return sorted(found, key=lambda size: (len(size), size))


def _of(one: CandidateResult, name: tuple[str, str]) -> MetricResult | None:
    return next((m for m in one.metrics if (m.set, m.metric) == name), None)


def number(value: float | None) -> str:
    """Four significant digits, as a person would write them.

    >>> number(0.82034), number(42.0), number(float("nan")), number(None)
    ('0.8203', '42', 'NaN', '–')
    """
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _signed(value: float) -> str:
    text = f"{abs(value):.4f}" if abs(value) < 10 else number(abs(value))
    return f"−{text}" if value < 0 else f"+{text}"


def _fraction(value: float) -> str:
    """Of something near 1, whose last digits matter."""
    return "NaN" if math.isnan(value) else f"{value:.5f}".rstrip("0").rstrip(".")


def _interval(found: Interval) -> str:
    return f"[{_signed(found.low)}, {_signed(found.high)}]"


def _bytes(size: int | None) -> str:
    return format_bytes(size) if size else "–"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{number(value)} ms"


def _when(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _yaml(document: object) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _clip(text: str, length: int = 300) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
