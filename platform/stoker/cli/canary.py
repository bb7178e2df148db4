"""``stoker deploy --canary``: declares on a package that its revision is tried out first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from stoker.cli.failure import EXIT_USAGE, Failure
from stoker.cli.project_entry import AnyPackage


@dataclass(frozen=True, slots=True)
class CanaryOptions:
    """What was said on the command line; an empty one says nothing, and the rest is as declared.

    Attributes:
        share: ``5%`` or ``0.05``.
        length: a duration such as ``5m``, or seconds.
        sticky: a request header.
        requests: the fewest requests before it is judged.
    """

    share: str = ""
    length: str = ""
    sticky: str = ""
    requests: int | None = None

    @property
    def are_given(self) -> bool:
        """Whether anything was said."""
        return bool(self.share or self.length or self.sticky or self.requests is not None)

    def fields(self) -> dict[str, Any]:
        """As fields of the annotation.

        Raises:
            Failure: one of them cannot be read.
        """
        from stoker.nouns.quantity import parse_duration

        found: dict[str, Any] = {}
        if self.share:
            found["share"] = _share(self.share)
        if self.length:
            try:
                found["length_s"] = parse_duration(_seconds(self.length))
            except ValueError as exc:
                raise Failure(f"--canary-length {exc}", exit_code=EXIT_USAGE) from exc
        if self.sticky:
            found["sticky"] = self.sticky
        if self.requests is not None:
            found["min_requests"] = self.requests
        return found


def declare(package: AnyPackage, options: CanaryOptions) -> None:
    """Writes the annotation; what the function declares itself stays where nothing else was said.

    Raises:
        Failure: it is no canary that can be run.
    """
    from stoker.nouns.rollout import CANARY_ANNOTATION, canary_of

    annotations = package.annotations()
    try:
        declared = json.loads(annotations.get(CANARY_ANNOTATION) or "{}")
        if not isinstance(declared, dict):
            raise ValueError(f"must be a JSON object, was {declared!r}")
        written = json.dumps(declared | options.fields())
        canary_of({CANARY_ANNOTATION: written})
    except ValueError as exc:
        raise Failure(f"{package.source}: {exc}", exit_code=EXIT_USAGE) from exc
    annotations[CANARY_ANNOTATION] = written


def _seconds(text: str) -> str | float:
    """A plain number as one, which counts seconds; any other text as it is."""
    try:
        return float(text)
    except ValueError:
        return text


def _share(text: str) -> float:
    """A share of the requests.

    >>> _share("5%"), _share("0.25")
    (0.05, 0.25)
    """
    number = text.strip()
    try:
        share = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        must = "must be a share above 0 and at most 1, such as 5% or 0.05"
        raise Failure(f"--canary {must}, was {text!r}", exit_code=EXIT_USAGE)
    return share
