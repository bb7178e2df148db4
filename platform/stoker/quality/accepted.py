"""``quality.lock``: the sets and the reference that people have accepted, beside the declaration.

Kept in the function's folder, to be committed: a change of what the function is judged by then
stands in a review, and a fresh checkout judges by the same.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stoker.nouns.errors import BadRequest

FILE = "quality.lock"


class Accepted(BaseModel):
    """What was accepted.

    Attributes:
        sets: digest of each set's items, by name.
        reference: the reference's metrics, by ``<set>/<metric>``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    sets: dict[str, str] = Field(default_factory=dict)
    reference: dict[str, float] = Field(default_factory=dict)


def read(folder: Path) -> Accepted | None:
    """What was accepted for a function; None: nothing was yet.

    Raises:
        BadRequest: the file is damaged.
    """
    path = folder / FILE
    try:
        return Accepted.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as exc:
        raise BadRequest(
            f"{path} cannot be read; restore it, or delete it to accept the sets anew: {exc}"
        ) from exc


def write(folder: Path, accepted: Accepted) -> None:
    """Accepts; readers see the old file or the new one."""
    path = folder / FILE
    draft = path.with_name(f".{FILE}.{os.getpid()}")
    text = json.dumps(accepted.model_dump(), indent=2, sort_keys=True)
    draft.write_text(text + "\n")
    draft.replace(path)
