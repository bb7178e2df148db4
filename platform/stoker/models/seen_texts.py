"""The texts that a checkpoint was made on, by fingerprint: it must not be judged by them.

``calibration.json`` beside the weights: ``{"texts": 2, "digest": "…", "lines": ["…", "…"]}``.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from stoker.nouns.errors import UnusableModel

SEEN = "calibration.json"


def fingerprint(text: str) -> str:
    """SHA-256 of a text, whatever its spacing, its case and its form of Unicode.

    >>> fingerprint(" A  cat. ") == fingerprint("a Cat.")
    True
    """
    same = unicodedata.normalize("NFC", " ".join(text.split())).casefold()
    return hashlib.sha256(same.encode()).hexdigest()


def note(folder: Path, texts: Iterable[str]) -> None:
    """Adds texts to those that the checkpoint in ``folder`` was made on."""
    lines = sorted(seen(folder) | {fingerprint(text) for text in texts})
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    held = {"texts": len(lines), "digest": digest, "lines": lines}
    (folder / SEEN).write_text(json.dumps(held) + "\n")


def seen(folder: Path) -> frozenset[str]:
    """The fingerprints of all texts that a checkpoint was made on; none, if there were none.

    Raises:
        UnusableModel: the file that holds them is damaged.
    """
    try:
        held = json.loads((folder / SEEN).read_bytes())
        return frozenset(map(str, held["lines"]))
    except FileNotFoundError:
        return frozenset()
    except (ValueError, KeyError, TypeError) as exc:
        raise UnusableModel(f"{folder / SEEN} cannot be read: {exc!r}") from exc
