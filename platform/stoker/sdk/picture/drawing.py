"""``stoker.draw``: a graph, as a notebook shows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stoker.sdk.picture.sketch import sketch
from stoker.sdk.picture.svg import render


class Drawing:
    """A picture that Jupyter shows by itself, and that can be kept in a file.

    Attributes:
        svg: the picture, as an SVG document.
    """

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def save(self, path: str | Path) -> None:
        """Writes it to an ``.svg`` file.

        Raises:
            OSError: the file cannot be written.
        """
        Path(path).write_text(self.svg, encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Drawing: {len(self.svg)} bytes of SVG>"


def draw(graph: Any) -> Drawing:
    """Draws a serving graph: where each step runs, what leads where, who replies.

    MLRun's own ``graph.plot()`` needs graphviz's programs; this needs nothing.

    Args:
        graph: a serving function of mlrun, its graph, or the graph's spec as a dict.

    Raises:
        TypeError: it is none of these.
        ValueError: the function has no graph, or the graph no step.
    """
    spec = _spec(graph)
    if not (spec.get("steps") or spec.get("routes")):
        raise ValueError("there is nothing to draw: the graph has no step")
    return Drawing(render(sketch(spec)))


def _spec(graph: Any) -> Mapping[str, Any]:
    if isinstance(graph, Mapping):
        return graph
    function_spec = getattr(graph, "spec", None)
    if function_spec is not None:
        graph = getattr(function_spec, "graph", None)
        if graph is None:
            raise ValueError("the function has no graph: call set_topology first")
    if not hasattr(graph, "to_dict"):
        raise TypeError(f"draw takes a serving function or its graph, was {type(graph).__name__}")
    spec: Mapping[str, Any] = graph.to_dict()
    return spec
