"""What verbs say: numbers for people, tables, progress."""

from __future__ import annotations

import re
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from stoker.nouns.quantity import format_bytes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MANY_ERRORS = 0.05
STATE_STYLES = {
    "ready": "green",
    "scaledToZero": "cyan",
    "error": "red",
    "unhealthy": "red",
    "draining": "yellow",
    "asleep": "cyan",
    "starting": "yellow",
}


def console(*, stderr: bool = False) -> Console:
    """A console; rich finds out itself whether it is a terminal."""
    from rich.console import Console

    # Lines too long are left to the terminal to wrap: cut off, a name could not be copied.
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    r"""The text with its control characters written out, less newlines and tabs.

    What a function logs would else move the cursor, rename the window or hide lines.

    >>> printable("a\tb\x1b[2Jc\r\x9bd")
    'a\tb\\x1b[2Jc\\x0d\\x9bd'
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def state(name: str) -> str:
    """A state in its colour."""
    style = STATE_STYLES.get(name, "yellow")
    return f"[{style}]{name}[/]"


def seconds(value: float | None) -> str:
    """A time for people.

    >>> seconds(0.0123), seconds(1.5), seconds(75), seconds(7300), seconds(None)
    ('12 ms', '1.5 s', '1m15s', '2h01m', '-')
    """
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def age(epoch_s: float) -> str:
    """The time since then."""
    return seconds(max(0.0, time.time() - epoch_s)) if epoch_s else "-"


def size(count: int | None) -> str:
    """Bytes for people; ``-`` when unknown."""
    return "-" if count is None else format_bytes(count)


def rate(value: float | None) -> str:
    """Requests per second.

    >>> rate(None), rate(0.25), rate(1234.5)
    ('-', '0.2/s', '1234/s')
    """
    if value is None:
        return "-"
    return f"{value:.0f}/s" if value >= 100 else f"{value:.1f}/s"


def errors(share: float | None) -> str:
    """The share of answers that were 5xx, in its colour; ``-`` where there were none at all.

    >>> errors(None), errors(0.0), errors(0.002), errors(1.0)
    ('-', '0%', '[yellow]<1%[/]', '[red]100%[/]')
    """
    if share is None:
        return "-"
    if not share:
        return "0%"
    style = "red" if share >= _MANY_ERRORS else "yellow"
    return f"[{style}]{'<1' if share < 0.01 else round(share * 100)}%[/]"


class Progress:
    """The state of one deploy on stderr: a spinner in a terminal, plain lines elsewhere."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title = title
        self._quiet = quiet
        self._console = console(stderr=True)
        self._status: Status | None = None
        self._last = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._status = self._console.status(f"{self._title} …")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def log(self, text: str, style: str) -> None:
        """One line of the deploy log."""
        if not self._quiet:
            self._console.print(f"  {printable(text)}", style=style, markup=False)

    def state(self, name: str) -> None:
        """The state it is in now."""
        if self._quiet or name == self._last:
            return
        self._last = name
        if self._status is not None:
            self._status.update(f"{self._title}: {name} …")
        else:
            self._console.print(f"  {self._title}: {name}", style="dim", markup=False)

    def say(self, text: str) -> None:
        """A line that stays, on stdout."""
        sys.stderr.flush()
        console().print(text)


def print_json(document: Any) -> None:
    """A document on stdout."""
    import json

    sys.stdout.write(json.dumps(document, indent=2) + "\n")
