"""What a request may say about how its inputs are treated."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from stoker.nouns.errors import BadRequest


class Parameters(BaseModel):
    """Of every task.

    Attributes:
        adapter: the name of one of ``STOKER_ADAPTER``; empty is the model without any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter: str = ""

    def for_tensors(self) -> Self:
        """As they must be for results that become tensors."""
        return self

    def shared(self) -> Self:
        """What inputs must have in common to run together; the rest is each one's own."""
        return self


P = TypeVar("P", bound=Parameters)


def read_parameters(kind: type[P], given: Mapping[str, Any]) -> P:
    """Checks the parameters of a request.

    Raises:
        BadRequest: naming each that is wrong or unknown.
    """
    try:
        return kind.model_validate(dict(given))
    except ValidationError as exc:
        fields = [_field(kind, error) for error in exc.errors()]
        text = "; ".join(f"parameters.{one['field']}: {one['message']}" for one in fields)
        raise BadRequest(text, fields=fields) from exc


def _field(kind: type[Parameters], error: Any) -> dict[str, str]:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        message = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must")
        return {"field": name, "message": f"{message}, was {error['input']!r:.80}"}
    known = sorted(kind.model_fields)
    near = difflib.get_close_matches(name, known, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return {"field": name, "message": f"is not known; {guess}known are {', '.join(known)}"}
