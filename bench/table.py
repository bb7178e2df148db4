"""The one table that a run prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from bench.result import Figure, Result

_VERDICTS = {True: "[green]yes[/]", False: "[bold red]no[/]", None: ""}


def number(value: float | None) -> str:
    """Three digits that matter, thousands apart.

    >>> number(38123.4), number(0.5612), number(12.345), number(None)
    ('38,123', '0.561', '12.3', '')
    """
    if value is None:
        return ""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    for limit, digits in ((100, 0), (10, 1), (1, 2)):
        if size >= limit:
            return f"{value:.{digits}f}"
    return f"{value:.3g}"


def target(figure: Figure) -> str:
    """The target with its unit: ``×`` where a ratio is judged."""
    if figure.target is None:
        return ""
    unit = "×" if figure.ratio is not None else f" {figure.unit}"
    return f"{'≥' if figure.target.sign == '>=' else '≤'} {figure.target.limit:g}{unit}"


def rows(result: Result) -> list[list[str]]:
    """One row a figure, then one for each thing that was not run."""
    lines = [
        [
            figure.name,
            f"{number(figure.value)} {figure.unit}",
            number(figure.reference),
            number(figure.ratio),
            target(figure),
            _VERDICTS[figure.met],
        ]
        for figure in result.figures
    ]
    lines += [[f"{what}: not run", "", "", "", "", why] for what, why in result.not_run.items()]
    return lines


def table(results: Sequence[Result]) -> Table:
    """All figures of a run."""
    shown = Table(title="Stoker, measured in this run", title_justify="left")
    shown.add_column("figure", overflow="fold", min_width=30)
    for heading in ("measured", "beside", "ratio", "target"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("met?", overflow="fold", max_width=40)
    for result in results:
        for row in rows(result):
            shown.add_row(*row)
        shown.add_section()
    return shown
