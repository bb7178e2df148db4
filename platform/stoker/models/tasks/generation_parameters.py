"""What a request may say about how a text is written."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator

from stoker.models.tasks.parameters import Parameters

MOST_NEW_TOKENS = 8192
"""Where the model's context is not known, nothing else bounds a request."""


class GenerationParameters(Parameters):
    """Of text generation.

    Attributes:
        max_new_tokens: the most tokens to write.
        temperature: 0 takes the likeliest token, always; higher is more varied.
        top_p: draw from the likeliest tokens that together have this chance.
        top_k: draw from so many of the likeliest tokens; null is all.
        seed: the same seed, prompt and temperature give the same text; such a prompt runs alone.
        stop: texts at which it ends; they are not part of the answer.
        return_full_text: the prompt before it.
        score: write nothing, and tell how likely the input itself is.
    """

    max_new_tokens: int | None = Field(default=None, ge=1, le=MOST_NEW_TOKENS)
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: tuple[str, ...] = ()
    return_full_text: bool = False
    score: bool = False

    def shared(self) -> Self:
        """See `Parameters`: a text ends by itself, whatever its neighbours do."""
        own = {"max_new_tokens": None, "stop": (), "return_full_text": False}
        return self.model_copy(update=own)

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        stops = (value,) if isinstance(value, str) else value
        if isinstance(stops, (list, tuple)) and (len(stops) > 16 or "" in stops):
            raise ValueError("must be up to 16 texts, none of them empty")
        return stops or ()
