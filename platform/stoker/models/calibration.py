"""The texts that a method calibrates on: found, checked, and told apart from those of a judgement.

What a quantization saw while it was made must not be what it is judged by, so each text leaves its
fingerprint beside the checkpoint.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from stoker.models import seen_texts, text_file
from stoker.models.manifest import Calibrated
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
    path = text_file.path_of(declared, _VARIABLE)
    content = text_file.content_of(path, _VARIABLE, most_bytes=_MOST_BYTES)
    lines = tuple(dict.fromkeys(text_file.lines_of(content, path, _VARIABLE)))
    if len(lines) < LEAST:
        raise UnusableModel(
            f"{_VARIABLE}: {path} must have at least {LEAST} different texts, one a line, "
            f"has {len(lines)}"
        )
    return Texts(path, hashlib.sha256(content).hexdigest(), lines)
