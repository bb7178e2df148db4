"""A declared file of texts, one a line: found, read and checked."""

from __future__ import annotations

from pathlib import Path

from stoker.models.source import PACKAGE_SCHEME, in_package
from stoker.nouns.errors import UnusableModel


def path_of(declared: str, variable: str) -> Path:
    """The file that a variable means: a path, or ``package://<module>/<path>``.

    Raises:
        UnusableModel: the package or the file in it is not there.
    """
    if declared.startswith(PACKAGE_SCHEME):
        return in_package(declared, variable)
    return Path(declared).expanduser().resolve()


def content_of(path: Path, variable: str, *, most_bytes: int) -> bytes:
    """The file's bytes.

    Raises:
        UnusableModel: it is not there, or too large.
    """
    try:
        if (size := path.stat().st_size) > most_bytes:
            raise UnusableModel(
                f"{variable}: {path} must have at most {most_bytes >> 20} MiB, has {size >> 20}"
            )
        return path.read_bytes()
    except OSError as exc:
        raise UnusableModel(
            f"{variable}: {path} cannot be read ({exc.strerror}); must be a file of texts, one a "
            "line"
        ) from exc


def lines_of(content: bytes, path: Path, variable: str) -> list[str]:
    """Its lines that hold something, stripped.

    Raises:
        UnusableModel: it is no text.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        raise UnusableModel(
            f"{variable}: {path} must be UTF-8, one text a line: {exc.reason} at byte {exc.start}"
        ) from exc
    return [line for line in map(str.strip, text.splitlines()) if line]
