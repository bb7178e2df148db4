"""Keys of the two ports, from the environment or a file; never from ``argv``, which others see."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stoker.cli.failure import Failure


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys by port."""

    control: tuple[str, ...] = ()
    data: tuple[str, ...] = ()


def read_keys(file: Path | None) -> Keys:
    """The keys that ``stoker up`` should ask for.

    ``STOKER_API_KEY`` opens both ports. The file holds a key a line: a bare one opens both,
    ``control: KEY`` and ``data: KEY`` open one; lines beginning with # are comments.

    Raises:
        Failure: the file cannot be read, is readable by others, or holds no key; or a key is none
            that a header could bring.
    """
    environment = os.environ.get("STOKER_API_KEY", "").strip()
    both = (_checked(environment, "STOKER_API_KEY"),) if environment else ()
    if file is None:
        return Keys(both, both)
    control, data = list(both), list(both)
    for number, line in _lines(file):
        port, colon, key = line.partition(":")
        opens = {"control": [control], "data": [data]}.get(port.strip() if colon else "")
        found = _checked(line if opens is None else key.strip(), f"{file}:{number}")
        for keys in opens or [control, data]:
            keys.append(found)
    if not control or not data:
        raise Failure(f"{file} must hold a key for each port: a bare key opens both")
    return Keys(tuple(control), tuple(data))


def _checked(key: str, where: str) -> str:
    """A key that a header can bring, byte for byte; an empty one would open the port to all."""
    if not key or not (key.isascii() and key.isprintable()):
        raise Failure(f"{where}: a key must be printable ASCII, and must not be empty")
    return key


def _lines(file: Path) -> list[tuple[int, str]]:
    try:
        readable_by = file.stat().st_mode & 0o077
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as exc:
        raise Failure(f"the key file {file} cannot be read: {exc}") from exc
    if readable_by:
        raise Failure(f"{file} can be read by others", hint=f"run: chmod 600 {file}")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    return [(number, line) for number, line in lines if line and not line.startswith("#")]
