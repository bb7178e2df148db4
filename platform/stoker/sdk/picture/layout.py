"""Where each box of a sketch stands: in columns from left to right, with as few bends as can be.

Lengths are in points. The way is Sugiyama's: columns by the longest way from the request, an arrow
that passes a column keeps a lane free there, and each box stands at the mean height of what leads
to it, pushed apart where boxes would overlap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from stoker.sdk.picture.sketch import Arrow, Flow, Place, Sketch

COLUMN_GAP = 44.0
ROW_GAP = 22.0
DROP = 64.0
"""How far below the flow a handler hangs, unless boxes leave less room."""
LANE = 10.0
"""Height that an arrow needs where it passes boxes."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a box."""

    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Spot:
    """A box's middle, and its size."""

    x: float
    y: float
    size: Size

    @property
    def left(self) -> float:
        """Where arrows arrive."""
        return self.x - self.size.width / 2

    @property
    def right(self) -> float:
        """Where arrows leave."""
        return self.x + self.size.width / 2

    @property
    def top(self) -> float:
        """The upper edge; y grows downward."""
        return self.y - self.size.height / 2

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.y + self.size.height / 2


@dataclass(frozen=True, slots=True)
class Layout:
    """Every box's place by its name, and the points that each arrow passes on its way."""

    spots: dict[str, Spot]
    ways: dict[Arrow, tuple[tuple[float, float], ...]]


@dataclass(frozen=True, slots=True)
class _Lane:
    """The place that an arrow takes in a column between its ends."""

    arrow: Arrow
    column: int


_Item = str | _Lane


def place(sketch: Sketch, sizes: dict[str, Size]) -> Layout:
    """Places every box of a sketch; the same sketch is always placed alike."""
    columns = _columns(sketch)
    grid, before = _grid(sketch, columns)
    heights = _heights(grid, before, sizes, _hanging(sketch, grid))
    middles = _middles(grid, sizes)
    spots = {
        item: Spot(middles[column], heights[item], sizes[item])
        for column, items in enumerate(grid)
        for item in items
        if isinstance(item, str)
    }
    return Layout(spots, _ways(grid, heights, middles, sizes))


def _ways(
    grid: list[list[_Item]],
    heights: dict[_Item, float],
    middles: list[float],
    sizes: dict[str, Size],
) -> dict[Arrow, tuple[tuple[float, float], ...]]:
    """Through each column level, from edge to edge: a bend there would cut a box's corner."""
    ways: dict[Arrow, list[tuple[float, float]]] = defaultdict(list)
    for column, items in enumerate(grid):
        half = _widest(items, sizes) / 2
        for item in items:
            if isinstance(item, _Lane):
                y = heights[item]
                ways[item.arrow] += [(middles[column] - half, y), (middles[column] + half, y)]
    return {arrow: tuple(points) for arrow, points in ways.items()}


def _columns(sketch: Sketch) -> dict[str, int]:
    """How many boxes stand before each, by the longest way from the request.

    A cycle that is not declared as one is cut where it is met: a wrong graph is drawn all the same.
    """
    after: dict[str, list[str]] = defaultdict(list)
    for arrow in sketch.arrows:
        if arrow.flow is not Flow.BACK:
            after[arrow.end].append(arrow.start)
    found: dict[str, int] = {}

    def column(name: str, seen: frozenset[str]) -> int:
        if name not in found:
            earlier = [one for one in after[name] if one not in seen]
            found[name] = max((column(one, seen | {name}) + 1 for one in earlier), default=0)
        return found[name]

    for box in sketch.boxes:
        column(box.name, frozenset({box.name}))
    last = max(found.values(), default=0)
    leads = {name for arrow in sketch.arrows for name in (arrow.start, arrow.end)}
    lonely = {box.name: min(1, last) for box in sketch.boxes if box.name not in leads}
    return found | lonely


def _grid(
    sketch: Sketch, columns: dict[str, int]
) -> tuple[list[list[_Item]], dict[_Item, list[_Item]]]:
    """What stands in each column, boxes and lanes, and what each is led to by."""
    grid: list[list[_Item]] = [[] for _ in range(max(columns.values(), default=0) + 1)]
    before: dict[_Item, list[_Item]] = defaultdict(list)
    for box in sketch.boxes:
        grid[columns[box.name]].append(box.name)
    for arrow in sketch.arrows:
        earlier: _Item = arrow.start
        for column in range(columns[arrow.start] + 1, columns[arrow.end]):
            lane = _Lane(arrow, column)
            grid[column].append(lane)
            before[lane].append(earlier)
            earlier = lane
        if columns[arrow.start] < columns[arrow.end]:
            before[arrow.end].append(earlier)
    return grid, before


def _hanging(sketch: Sketch, grid: list[list[_Item]]) -> set[_Item]:
    """Handlers, and the arrows to them: they hang below the flow, which stays on its line."""
    handlers: set[_Item] = {box.name for box in sketch.boxes if box.place is Place.HANDLER}
    lanes = {item for items in grid for item in items if isinstance(item, _Lane)}
    return handlers | {lane for lane in lanes if lane.arrow.flow is Flow.ERROR}


def _heights(
    grid: list[list[_Item]],
    before: dict[_Item, list[_Item]],
    sizes: dict[str, Size],
    hanging: set[_Item],
) -> dict[_Item, float]:
    """The y of every item's middle."""
    found: dict[_Item, float] = {}
    for items in grid:
        wished = {item: _wish(item, before[item], found, hanging) for item in items}
        ordered = sorted(items, key=lambda item: (_depth(item, before, hanging), wished[item]))
        found |= _apart(ordered, wished, sizes, hanging)
    return found


def _depth(item: _Item, before: dict[_Item, list[_Item]], hanging: set[_Item]) -> int:
    """0 in the flow; what comes down here hangs above what came down earlier: no arrows cross."""
    if item not in hanging:
        return 0
    return 1 if hanging.isdisjoint(before[item]) else 2


def _wish(
    item: _Item, before: list[_Item], heights: dict[_Item, float], hanging: set[_Item]
) -> float:
    """The mean height of what leads to it; the flow does not follow what hangs."""
    leading = [one for one in before if item in hanging or one not in hanging] or before
    drop = item in hanging and not any(one in hanging for one in leading)
    return _mean(heights[one] for one in leading) + (DROP if drop else 0.0)


def _apart(
    items: list[_Item], wished: dict[_Item, float], sizes: dict[str, Size], hanging: set[_Item]
) -> dict[_Item, float]:
    """Each at its wish, or as near below it as those above leave room.

    Then all are moved as one, so that on the whole the flow is where it wished to be.
    """
    found: dict[_Item, float] = {}
    free = float("-inf")
    for item in items:
        half = _height(item, sizes) / 2
        found[item] = max(wished[item], free + half)
        free = found[item] + half + ROW_GAP
    flow = [item for item in items if item not in hanging] or items
    shift = _mean(found[item] - wished[item] for item in flow)
    return {item: y - shift for item, y in found.items()}


def _height(item: _Item, sizes: dict[str, Size]) -> float:
    return sizes[item].height if isinstance(item, str) else LANE


def _middles(grid: list[list[_Item]], sizes: dict[str, Size]) -> list[float]:
    """The x of every column's middle."""
    middles, left = [], 0.0
    for items in grid:
        width = _widest(items, sizes)
        middles.append(left + width / 2)
        left += width + COLUMN_GAP
    return middles


def _widest(items: list[_Item], sizes: dict[str, Size]) -> float:
    return max((sizes[item].width for item in items if isinstance(item, str)), default=0.0)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def bounds(spots: Iterable[Spot]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of all of them."""
    listed = list(spots)
    return (
        min(spot.left for spot in listed),
        min(spot.top for spot in listed),
        max(spot.right for spot in listed),
        max(spot.bottom for spot in listed),
    )
