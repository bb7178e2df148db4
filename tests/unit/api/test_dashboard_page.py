"""The dashboard page's three files fit each other, and what they ask is there."""

from __future__ import annotations

import re
from pathlib import Path

import stoker.api
from stoker.api.overview import Overview
from stoker.api.streams import StreamViews

FOLDER = Path(stoker.api.__file__).parent / "page"
HTML, SCRIPT, STYLE = (
    (FOLDER / f"dashboard.{ending}").read_text() for ending in ("html", "js", "css")
)


def test_every_place_that_the_script_fills_is_on_the_page() -> None:
    places = set(re.findall(r'(?:byId|fill)\("([\w-]+)"', SCRIPT))
    assert {"functions", "queues", "devices", "workers"} <= places
    assert places <= set(re.findall(r'id="([\w-]+)"', HTML))


def test_everything_that_it_asks_for_has_a_route() -> None:
    asked = set(re.findall(r'"(/api/[\w/]+)"', SCRIPT))
    routes = {
        getattr(route, "path", "")
        for view in (Overview, StreamViews)
        for route in view.routes(view.__new__(view))
    }
    assert "/api/streams" in asked
    assert asked <= routes


def test_a_reason_is_as_wide_as_the_table_it_stands_in_and_is_never_cut() -> None:
    """A long one ended in an ellipsis, and a phone has no pointer to see the rest with."""
    functions = HTML.split('id="functions-title"')[1].split("</thead>")[0]
    columns = re.search(r"const COLUMNS = (\d+)", SCRIPT)
    assert columns is not None
    assert int(columns[1]) == len(re.findall("<th[ >]", functions))
    assert "text-overflow" not in STYLE


def test_one_refresh_at_most_is_due_however_often_a_key_is_tried() -> None:
    """Each submit of the form began a loop of its own, which asked once a second for ever."""
    assert SCRIPT.count("setTimeout(") == 1
    assert "clearTimeout(timer);" in SCRIPT.split("timer = setTimeout(")[0].splitlines()[-2]


def test_only_what_is_wrong_is_said_in_the_colour_of_errors() -> None:
    """A function that slept, whose devices were free for others, was told of in red."""
    tone = SCRIPT.split("function reasonTone(f) {")[1].split("\n}")[0]
    assert re.findall(r'return "bad"', tone) == ['return "bad"']
    assert 'if (TONES[f.state] === "bad") return "bad";' in tone
    assert 'f.shownState === "asleep" ? "well"' in tone
    assert SCRIPT.count("`why ${tone}`") == SCRIPT.count("why = element(") == 2
    (why,) = re.findall(r"^\.why \{(.*?)\}", STYLE, re.DOTALL | re.MULTILINE)
    assert "color: var(--tone, var(--muted))" in why
    assert ".well" not in STYLE
