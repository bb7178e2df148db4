"""The report's pictures, as SVG that takes its colours from the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stoker.quality.result import CandidateResult, MetricResult, QualityRun

_TEXT, _MUTED, _LINE = "#010203", "#040506", "#070809"
_GOOD, _BAD, _ACCENT = "#0a0b0c", "#0d0e0f", "#101112"
_VARIABLES = {
    _TEXT: "--text", _MUTED: "--muted", _LINE: "--line", _GOOD: "--good", _BAD: "--bad",
    _ACCENT: "--accent",
}  # fmt: skip
"""Colours that nothing else has, each replaced by the page's variable: dark pages stay readable."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "stoker",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _TEXT,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "axes.grid": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}
_MIB = 1024.0**2


def front(run: QualityRun) -> str:
    """Quality against latency and against bytes, a point a recipe; "" when none was measured.

    Up and to the left is better. The line is the Pareto front of what passed.
    """
    shown = [one for one in (run.reference, *run.candidates) if one.metrics and one.measured]
    if not shown:
        return ""
    with _figure(7.6, 3.2) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _scatter(left, shown, run, _latency, "handler, ms a request of one item")
        _scatter(right, shown, run, _mebibytes, "weights, MiB")
        metric = shown[0].metrics[0]
        left.set_ylabel(f"{metric.metric} on {metric.set}")
        if not metric.higher_is_better:
            left.invert_yaxis()
        return _svg(figure, "Quality against latency and bytes of each recipe")


def differences(run: QualityRun) -> str:
    """The paired differences to the reference with their intervals; "" when there are none."""
    rows = [(one, metric) for one in run.candidates for metric in one.metrics]
    if not rows:
        return ""
    names = list(dict.fromkeys((metric.set, metric.metric) for _, metric in rows))
    with _figure(7.6, 0.9 + 0.28 * max(1, len(run.candidates)) + 0.2) as figure:
        axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
        for axis, name in zip(axes, names, strict=True):
            chosen = [(one, m) for one, m in rows if (m.set, m.metric) == name]
            _forest(axis, chosen, [one.name for one in run.candidates])
            axis.set_title(f"{name[1]} on {name[0]}", fontsize=9, color=_TEXT)
        return _svg(figure, "Differences to the reference, with confidence intervals")


def _latency(one: CandidateResult) -> float | None:
    return one.measured.latency_ms.get("1") if one.measured else None


def _mebibytes(one: CandidateResult) -> float | None:
    return one.measured.weight_bytes / _MIB if one.measured and one.measured.weight_bytes else None


def _scatter(
    axis: Axes, shown: list[CandidateResult], run: QualityRun, across: Any, label: str
) -> None:
    points = [(one, x, one.metrics[0].candidate) for one in shown if (x := across(one)) is not None]
    for rank, (one, x, value) in enumerate(sorted(points, key=lambda point: point[1])):
        reference, colour = one is run.reference, _colour(one, run)
        # A percentile interval need not hold the value itself, and a length below 0 is refused.
        below, above = max(0.0, value.value - value.low), max(0.0, value.high - value.value)
        axis.errorbar(
            x, value.value, yerr=[[below], [above]], color=colour, elinewidth=0.8, alpha=0.5
        )
        marker = "s" if reference else "o" if one.passed else "x"
        axis.plot(x, value.value, marker, color=colour, markersize=6, zorder=3)
        axis.annotate(
            one.name, (x, value.value), xytext=(5, 6 if rank % 2 else -11),
            textcoords="offset points", color=colour, fontsize=8,
            fontweight="bold" if one.name == run.winner else "normal",
        )  # fmt: skip
    best = sorted((x, value.value) for one, x, value in points if one.on_front)
    if len(best) > 1:
        axis.plot(*zip(*best, strict=True), color=_GOOD, linewidth=1, linestyle="--", zorder=1)
    axis.set_xlabel(label)
    axis.set_xlim(left=0)
    axis.margins(x=0.15, y=0.15)


def _forest(axis: Axes, rows: list[tuple[CandidateResult, MetricResult]], order: list[str]) -> None:
    for one, metric in rows:
        y, found = order.index(one.name), metric.difference
        colour = _GOOD if one.passed else _BAD
        axis.plot([found.low, found.high], [y, y], color=colour, linewidth=1.6)
        axis.plot(found.value, y, "o", color=colour, markersize=5)
    for bound in {m.least_difference for _, m in rows if m.least_difference is not None}:
        axis.axvline(bound, color=_BAD, linewidth=1, linestyle=":")
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.axvline(0, color=_MUTED, linewidth=0.8)
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(len(order) - 0.5, -0.5)
    axis.set_xlabel("candidate − reference")


def _colour(one: CandidateResult, run: QualityRun) -> str:
    if one is run.reference:
        return _MUTED
    if one.name == run.winner:
        return _ACCENT
    return _GOOD if one.passed else _BAD


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    # Figure and not pyplot: nothing global, no display, nothing to close.
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    # A height and width of its own would not shrink with a narrow page.
    return re.sub(r'(<svg [^>]*?) ?height="[^"]*"', r"\1", text, count=1).replace(
        "<svg ", '<svg role="img" ', 1
    )
