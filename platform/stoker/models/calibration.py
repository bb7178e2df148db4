"""The texts that a method calibrates on: found, checked, and told apart from those of a judgement.

What a quantization saw while it was made must not be what it is judged by, so each text leaves its
fingerprint beside the checkpoint.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from stoker.models import seen_texts
from stoker.models.manifest import Calibrated
from stoker.models.source import PACKAGE_SCHEME, in_package
from stoker.nouns.errors import UnusableModel

LEAST = 16
"""Texts; fewer say too little of what a layer will see, and the result is worse than without."""
_MOST_BYTES = 64 << 20
_VARIABLE = "STOKER_CALIBRATION"


@dataclass(frozen=True, slots=True)
class Texts:
    """What a file holds.

    Attributes:
        path: of the file.
        digest: SHA-256 of its bytes.
        lines: its texts: no empty ones, none twice, in its order.
    """

    path: Path
    digest: str
    lines: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Notes the texts in ``folder`` (`stoker.models.seen_texts`)."""
        seen_texts.note(folder, self.lines)

    def facts(self, used: int, tokens: int) -> Calibrated:
        """For the manifest.

        Args:
            used: how many of them the model was shown.
            tokens: that they had together.
        """
        return Calibrated(texts=len(self.lines), used=used, tokens=tokens, digest=self.digest)


def read(declared: str) -> Texts:
    """The texts of ``STOKER_CALIBRATION``: a path, or ``package://<module>/<path>``; one a line.

    Raises:
        UnusableModel: the file is not there, no text, too large, or has too few.
    """
    path = _path(declared)
    content = _content(path)
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        raise UnusableModel(
            f"{_VARIABLE}: {path} must be UTF-8, one text a line: {exc.reason} at byte {exc.start}"
        ) from exc
    lines = tuple(dict.fromkeys(filter(None, map(str.strip, text.splitlines()))))
    if len(lines) < LEAST:
        raise UnusableModel(
            f"{_VARIABLE}: {path} must have at least {LEAST} different texts, one a line, "
            f"has {len(lines)}"
        )
    return Texts(path, hashlib.sha256(content).hexdigest(), lines)


def _path(declared: str) -> Path:
    if declared.startswith(PACKAGE_SCHEME):
        return in_package(declared, _VARIABLE)
    return Path(declared).expanduser().resolve()


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UnusableModel(
                f"{_VARIABLE}: {path} must have at most {_MOST_BYTES >> 20} MiB, has "
                f"{path.stat().st_size >> 20}: some hundred texts are enough"
            )
        return path.read_bytes()
    except OSError as exc:
        raise UnusableModel(
            f"{_VARIABLE}: {path} cannot be read ({exc.strerror}); must be a file of texts, one a "
            "line"
        ) from exc
