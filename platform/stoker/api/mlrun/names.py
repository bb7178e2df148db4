"""MLRun's rules for names, refused in MLRun's words."""

from __future__ import annotations

import re
from typing import Any

from stoker.nouns.errors import BadRequest

_SHORT = r"^.{0,63}$"
PROJECT = (_SHORT, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
"""A DNS-1123 label, which is what Nuclio takes for a project."""
TAG = (_SHORT, r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
ARTIFACT_KEY = (r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",)
SECRET_KEY = (r"^.{0,253}$", r"^[-._a-zA-Z0-9]+$")
_LONGEST_SHOWN = 63


def check(field: str, name: Any, patterns: tuple[str, ...]) -> str:
    """The name, when it follows the rules.

    Raises:
        BadRequest: it does not.
    """
    for pattern in patterns:
        if not isinstance(name, str) or not re.fullmatch(pattern.strip("^$"), name):
            shown = str(name)
            if len(shown) > _LONGEST_SHOWN:
                shown = shown[:_LONGEST_SHOWN] + "...truncated"
            raise BadRequest(
                f"Field '{field}' is malformed. '{shown}' does not match required pattern: "
                f"{pattern}"
            )
    return str(name)
