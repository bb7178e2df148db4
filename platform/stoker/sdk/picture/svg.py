"""A sketch as SVG: boxes, arrows, and a legend of the kinds that occur. Lengths are in points."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import pairwise

from stoker.sdk.picture.layout import Layout, Size, Spot, bounds, place
from stoker.sdk.picture.sketch import REPLY, REQUEST, Arrow, Box, Flow, Place, Sketch

_FONT = "-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"
_NAME_PT, _NOTE_PT = 13.0, 10.5
_ADVANCE = 0.6
"""Mean width of a letter in heights of the font; generous, because viewers' fonts differ."""
_BOLD = 1.1
_LONGEST = 34
"""Letters of a line; longer ones are cut in the middle, where URLs and classes differ least."""
_PAD, _LINE_GAP, _MARGIN = 12.0, 5.0, 14.0
_INNER_GAP = 7.0
_HEAD = 7.0
_LOOP = 24.0
"""How high above the boxes an arrow back goes."""
_INK, _FAINT, _LINE = "#222222", "#666666", "#555555"


@dataclass(frozen=True, slots=True)
class _Style:
    """Fill, border, corner, dashes.

    The colours are Okabe and Ito's, which the colour-blind tell apart; the legend and the second
    lines say the same without colour.
    """

    fill: str
    border: str
    corner: float = 5.0
    dash: str = ""


_STYLES = {
    Place.HERE: _Style("#ffffff", _LINE),
    Place.REMOTE: _Style("#e3f0f9", "#0072b2"),
    Place.CHILD: _Style("#e3f0f9", "#0072b2", dash="5 3"),
    Place.QUEUE: _Style("#fdf2dc", "#c98500", corner=20.0),
    Place.MODEL: _Style("#e0f3ec", "#009e73"),
    Place.HANDLER: _Style("#fbe9df", "#d55e00"),
}
_ENDS = {REQUEST: "request", REPLY: "reply"}


def render(sketch: Sketch) -> str:
    """The whole picture."""
    sizes = {box.name: _size(box) for box in sketch.boxes}
    layout = place(sketch, sizes)
    _, top, right, bottom = bounds(layout.spots.values())
    top = min([top, *(_top(layout, arrow) for arrow in sketch.arrows)])
    parts = [_arrow(arrow, layout) for arrow in sketch.arrows]
    parts += [_box(box, layout.spots[box.name]) for box in sketch.boxes]
    legend, legend_width = _legend(sketch, bottom + 28)
    width = max(right, legend_width) + 2 * _MARGIN
    height = bottom - top + (36 if legend else 0) + 2 * _MARGIN
    view = f"{-_MARGIN:g} {top - _MARGIN:.1f} {width:.1f} {height:.1f}"
    frame = (
        f'<rect x="{-_MARGIN:g}" y="{top - _MARGIN:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" fill="#ffffff"/>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" width="{width:.0f}" '
            f'height="{height:.0f}" role="img" aria-label="{escape(_said(sketch))}" '
            f'style="max-width: 100%; height: auto" font-family="{_FONT}">',
            frame,
            *parts,
            *legend,
            "</svg>",
        ]
    )


def _size(box: Box) -> Size:
    if box.place is Place.END:
        return Size(_width(_ENDS[box.name], _NAME_PT) + 8, 22.0)
    inner = [_size(one) for one in box.inner]
    wide = max(
        [_width(box.name, _NAME_PT) * _BOLD, _width(box.note, _NOTE_PT), *(s.width for s in inner)]
    )
    lines = _NAME_PT + (_NOTE_PT + _LINE_GAP if box.note else 0.0)
    stacked = sum(size.height + _INNER_GAP for size in inner)
    return Size(wide + 2 * _PAD, lines + 2 * _PAD - 4 + stacked)


def _width(text: str, points: float) -> float:
    return len(_shortened(text)) * points * _ADVANCE


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    half = (_LONGEST - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def _box(box: Box, spot: Spot) -> str:
    if box.place is Place.END:
        return _text(_ENDS[box.name], spot.x, spot.y + _NAME_PT * 0.35, _NAME_PT, _FAINT)
    style = _STYLES[box.place]
    dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
    parts = [
        f'<rect x="{spot.left:.1f}" y="{spot.top:.1f}" width="{spot.size.width:.1f}" '
        f'height="{spot.size.height:.1f}" rx="{style.corner:g}" fill="{style.fill}" '
        f'stroke="{style.border}" stroke-width="1.3"{dash}/>'
    ]
    y = spot.top + _PAD - 2 + _NAME_PT * 0.8
    parts.append(_text(box.name, spot.x, y, _NAME_PT, _INK, bold=True))
    if box.note:
        y += _NOTE_PT + _LINE_GAP
        parts.append(_text(box.note, spot.x, y, _NOTE_PT, _FAINT))
    return "\n".join([*parts, *_inner(box, spot, y)])


def _inner(box: Box, spot: Spot, y: float) -> list[str]:
    """What a router holds, stacked below its name."""
    parts, top = [], y + _INNER_GAP + 2
    for one in box.inner:
        size = Size(spot.size.width - 2 * _PAD, _size(one).height)
        parts.append(_box(one, Spot(spot.x, top + size.height / 2, size)))
        top += size.height + _INNER_GAP
    return parts


def _text(text: str, x: float, y: float, points: float, colour: str, bold: bool = False) -> str:
    shown = _shortened(text)
    # Whoever is shown a shortened text can still read the whole of it.
    whole = f"<title>{escape(text)}</title>" if shown != text else ""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{points:g}" fill="{colour}"{weight} '
        f'text-anchor="middle">{escape(shown)}{whole}</text>'
    )


def _arrow(arrow: Arrow, layout: Layout) -> str:
    start, end = layout.spots[arrow.start], layout.spots[arrow.end]
    if arrow.flow is Flow.BACK or start.right >= end.left:
        return _back(start, end, _ceiling(layout, start, end))
    points = [(start.right, start.y), *layout.ways.get(arrow, ()), (end.left - _HEAD, end.y)]
    x, y, wing = end.left, end.y, _HEAD / 2
    head = f"{x:.1f},{y:.1f} {x - _HEAD:.1f},{y - wing:.1f} {x - _HEAD:.1f},{y + wing:.1f}"
    error = arrow.flow is Flow.ERROR
    return _stroke(_curve(points), head, _STYLES[Place.HANDLER].border if error else _LINE, error)


def _curve(points: list[tuple[float, float]]) -> str:
    path = f"M {points[0][0]:.1f} {points[0][1]:.1f}"
    for (x, y), (next_x, next_y) in pairwise(points):
        bend = (x + next_x) / 2
        path += f" C {bend:.1f} {y:.1f} {bend:.1f} {next_y:.1f} {next_x:.1f} {next_y:.1f}"
    return path


def _back(start: Spot, end: Spot, ceiling: float) -> str:
    """Over the boxes: what hangs below them are handlers."""
    x, y, wing = end.x, end.top, _HEAD / 2
    bend = ceiling - _LOOP * 4 / 3  # a curve comes three quarters of the way to its handles
    path = (
        f"M {start.x:.1f} {start.top:.1f} C {start.x:.1f} {bend:.1f} {x:.1f} {bend:.1f} "
        f"{x:.1f} {y - _HEAD:.1f}"
    )
    head = f"{x:.1f},{y:.1f} {x - wing:.1f},{y - _HEAD:.1f} {x + wing:.1f},{y - _HEAD:.1f}"
    return _stroke(path, head, _LINE, True)


def _ceiling(layout: Layout, start: Spot, end: Spot) -> float:
    """The top of all that stands between two boxes, themselves included."""
    left, right = min(start.left, end.left), max(start.right, end.right)
    return min(s.top for s in layout.spots.values() if s.right > left and s.left < right)


def _top(layout: Layout, arrow: Arrow) -> float:
    """How far up an arrow reaches."""
    start, end = layout.spots[arrow.start], layout.spots[arrow.end]
    if arrow.flow is Flow.BACK or start.right >= end.left:
        return _ceiling(layout, start, end) - _LOOP
    return min(start.top, end.top)


def _stroke(path: str, head: str, colour: str, dashed: bool) -> str:
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.3"{dash}/>\n'
        f'<polygon points="{head}" fill="{colour}"/>'
    )


def _legend(sketch: Sketch, y: float) -> tuple[list[str], float]:
    """A line of the kinds that occur, and its width; nothing when all steps are of one kind."""
    everything = [*sketch.boxes, *(one for box in sketch.boxes for one in box.inner)]
    kinds = [kind for kind in _STYLES if any(box.place is kind for box in everything)]
    if len(kinds) < 2 and set(kinds) <= {Place.HERE}:
        return [], 0.0
    parts, x = [], 0.0
    for kind in kinds:
        style = _STYLES[kind]
        dash = f' stroke-dasharray="{style.dash}"' if style.dash else ""
        parts.append(
            f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="16" height="11" '
            f'rx="{min(style.corner, 5.5):g}" fill="{style.fill}" stroke="{style.border}" '
            f'stroke-width="1.3"{dash}/>'
        )
        parts.append(
            f'<text x="{x + 22:.1f}" y="{y:.1f}" font-size="{_NOTE_PT:g}" '
            f'fill="{_FAINT}">{escape(kind.value)}</text>'
        )
        x += 22 + _width(kind.value, _NOTE_PT) + 18
    return parts, x - 18


def _said(sketch: Sketch) -> str:
    """The graph in words, for those who cannot see it."""
    flows = [
        f"{_ENDS.get(arrow.start, arrow.start)} to {_ENDS.get(arrow.end, arrow.end)}"
        + (" when it fails" if arrow.flow is Flow.ERROR else "")
        for arrow in sketch.arrows
    ]
    return "A graph: " + ", ".join(flows)
