"""The comparison with the peers as a picture, from the JSON of a run.

``python -m bench.plot [.bench/latest.json] [TARGET.svg]``
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.context import OUT


def bars(document: dict[str, Any]) -> dict[str, float]:
    """Throughput as a share of the bare server's, by server, fastest first.

    >>> bars({"A": {"bare": [10, 10], "stoker": [5, 7], "peer": [1, 1]}})
    {'bare uvloop + httptools': 1.0, 'Stoker': 0.6, 'A': 0.1}
    """
    stoker: list[float] = []
    shares: dict[str, float] = {}
    for peer, rounds in document.items():
        stoker += [a / b for a, b in zip(rounds["stoker"], rounds["bare"], strict=True)]
        pairs = zip(rounds["peer"], rounds["bare"], strict=True)
        shares[peer] = statistics.median(a / b for a, b in pairs)
    shares |= {"bare uvloop + httptools": 1.0, "Stoker": statistics.median(stoker)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def draw(shares: dict[str, float], target: Path, caption: str) -> None:
    """One horizontal bar a server, on a logarithmic axis, its share written beside it."""
    import matplotlib as mpl

    mpl.use("svg" if target.suffix == ".svg" else "agg")
    from matplotlib import pyplot

    names = list(reversed(shares))
    values = [shares[name] for name in names]
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(names) + 1.3), layout="constrained")
    colours = ["#d9480f" if name == "Stoker" else "#868e96" for name in names]
    axes.barh(names, values, color=colours, left=min(values) / 3)
    axes.set_xscale("log")
    for place, value in enumerate(values):
        axes.annotate(f" {value:.3g}", (value + min(values) / 3, place), va="center")
    axes.set_xlabel("requests/s as a share of the bare server's, logarithmic")
    axes.set_title(caption, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.15)
    figure.savefig(target)
    pyplot.close(figure)


def picture(document: dict[str, Any], target: Path) -> None:
    """Draws the ``peers`` benchmark's JSON."""
    caption = (
        f"Echo of a small JSON, 32 connections, {len(document['cores'])} cores "
        f"({document['processor']}), {document['when'][:10]}"
    )
    draw(bars(document["details"]), target, caption)


def main(argv: Sequence[str]) -> Path:
    """Draws a run's JSON, by default the latest; the picture's path."""
    parser = argparse.ArgumentParser(prog="python -m bench.plot")
    parser.add_argument("source", type=Path, nargs="?", default=OUT / "latest.json")
    parser.add_argument("target", type=Path, nargs="?", default=OUT / "peers.svg")
    options = parser.parse_args(argv)
    read = json.loads(options.source.read_text())
    picture(read.get("peers", read), options.target)
    return Path(options.target)


if __name__ == "__main__":
    print(main(sys.argv[1:]))
