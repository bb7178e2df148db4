"""What a function declares about the recording of its traffic: ``STOKER_RECORD``.

Off unless it is declared. A variable and not a config field, so that the same function deploys
unchanged on Nuclio, which has no word for it and records nothing.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from stoker.nouns.quantity import parse_bytes, parse_duration
from stoker.nouns.secrecy import is_secret

RECORD_VARIABLE = "STOKER_RECORD"
REPLAY_HEADER = "x-stoker-replay"
MIRROR_HEADER = "x-stoker-mirror"
"""Requests with one of these are copies of others: recorded again, they would count twice."""
UNRECORDED = frozenset({REPLAY_HEADER, MIRROR_HEADER})

SEGMENT_SUFFIX = ".jsonl"
ABOUT = "about.json"
"""Beside the segments: the declaration that they were written by."""
KEY = "key"
LOCK = "lock"

_NEVER = frozenset(
    {
        "authorization",
        "cookie",
        "proxy-authorization",
        "set-cookie",
        "x-api-key",
        "x-v3io-session-key",
    }
)
"""Headers that open doors; no declaration can have them written."""
_DAY = re.compile(r"(\d+(?:\.\d+)?)d")
_LEAST_SEGMENTS = 4
"""Files that a set has room for, so that making room never throws most of it away at once."""

How = Literal["drop", "mask", "hash"]


def _age(value: Any) -> Any:
    """Seconds of a Go duration, or of days, which Go has no word for."""
    text = str(value).strip()
    days = _DAY.fullmatch(text)
    return float(days[1]) * 86400 if days else parse_duration(value)


def _size(value: Any) -> Any:
    return parse_bytes(value)


class Redaction(BaseModel):
    """What must not be written as it came; exactly one of the four places.

    Attributes:
        path: into a JSON body, of the request or of the answer: ``user.email``, ``items[*].card``,
            ``**.password`` (at any depth).
        query: a parameter of the URL's query, or a field of a form.
        header: one of the recorded headers.
        pattern: a regular expression; what it matches in a string of a body, in a recorded header
            or in the path is replaced.
        how: ``drop`` it, ``mask`` it, or ``hash`` it by the set's own random key, so that equal
            values stay equal and tell nothing else. A pattern's matches cannot be dropped: they
            are masked or hashed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    path: str = ""
    query: str = ""
    header: str = ""
    pattern: str = ""
    how: How = Field(default="mask", alias="with")

    @field_validator("pattern")
    @classmethod
    def _can_be_compiled(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as exc:
            raise ValueError(f"must be a regular expression, was {value!r}: {exc}") from exc
        return value

    @field_validator("path")
    @classmethod
    def _has_parts(cls, value: str) -> str:
        return checked_path(value) if value else value

    @field_validator("header")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower()

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(map(bool, (self.path, self.query, self.header, self.pattern))) != 1:
            raise ValueError("a redaction needs exactly one of path, query, header, pattern")
        return self

    @property
    def words(self) -> str:
        """For people: ``mask user.email``."""
        place = self.path or (self.query and f"?{self.query}") or self.header
        return f"{self.how} {place or f'/{self.pattern}/'}"


def path_parts(path: str) -> list[str]:
    """The steps of a path into JSON; ``*`` is any member or element, ``**`` any depth.

    >>> path_parts("$.items[*].card"), path_parts("rows[0]"), path_parts("**.password")
    (['items', '*', 'card'], ['rows', '0'], ['**', 'password'])
    """
    return path.removeprefix("$").removeprefix(".").replace("[", ".").replace("]", "").split(".")


def checked_path(path: str) -> str:
    """The path itself.

    Raises:
        ValueError: it is none.
    """
    if not all(path_parts(path)):
        raise ValueError(f'must be like "user.email" or "items[*].card", was {path!r}')
    return path


class RecordingSpec(BaseModel):
    """How much of a function's traffic is kept, for how long, and what of it is not.

    >>> RecordingSpec.read("share=0.1,max=256MiB,mask=user.email").max_bytes
    268435456

    Attributes:
        share: of its requests that are recorded, above 0 and at most 1.
        max_bytes: of all files of the function together; the oldest make room.
        max_body_bytes: a request whose body, or whose answer's, is larger is not recorded.
        keep_s: seconds after which a recorded request is deleted. A week: a validation set is of
            use while the traffic is still like it.
        headers: that are written besides the content type; none by default.
        redact: what must not be written as it came.
        ignore: paths into the JSON of answers that vary from one to the next (ids, times): they are
            recorded, and a replay does not compare them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    share: float = Field(gt=0, le=1)
    max_bytes: Annotated[int, BeforeValidator(_size), Field(alias="max", ge=1)] = 256 * 1024**2
    max_body_bytes: Annotated[int, BeforeValidator(_size), Field(alias="body", ge=1)] = 256 * 1024
    keep_s: Annotated[float, BeforeValidator(_age), Field(alias="keep", gt=0)] = 7 * 86400.0
    headers: tuple[str, ...] = ()
    redact: tuple[Redaction, ...] = ()
    ignore: tuple[str, ...] = ()

    @field_validator("headers")
    @classmethod
    def _no_credentials(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        lower = tuple(name.lower() for name in value)
        for name in lower:
            if name in _NEVER or is_secret(name):
                raise ValueError(f"the header {name!r} is never recorded: it opens doors")
        return lower

    @field_validator("ignore")
    @classmethod
    def _are_paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(checked_path, value))

    @model_validator(mode="after")
    def _room_for_a_few(self) -> Self:
        if self.max_bytes < _LEAST_SEGMENTS * self.max_body_bytes:
            raise ValueError(
                f"max must be at least {_LEAST_SEGMENTS} times body ({self.max_body_bytes} bytes), "
                f"was {self.max_bytes}"
            )
        return self

    @classmethod
    def read(cls, text: str) -> RecordingSpec:
        """From the variable: a JSON object, or ``share=0.1,max=256MiB,mask=user.email``.

        Raises:
            ValueError: what is wrong, what it was and what it must be.
        """
        try:
            document = json.loads(text) if text.lstrip().startswith("{") else _short(text)
            return cls.model_validate(document)
        except ValidationError as exc:
            raise ValueError("; ".join(map(_in_words, exc.errors()))) from exc
        except json.JSONDecodeError as exc:
            raise ValueError(f"must be JSON, or like share=0.1,max=256MiB: {exc}") from exc

    @classmethod
    def of(cls, env: Any) -> RecordingSpec | None:
        """What an environment declares; None: nothing is recorded.

        Raises:
            ValueError: as `read`.
        """
        text = str(env.get(RECORD_VARIABLE, "")).strip()
        return cls.read(text) if text and text.lower() not in ("0", "off", "false", "no") else None

    def document(self) -> dict[str, Any]:
        """As JSON; `model_validate` reads it back."""
        return self.model_dump(mode="json")


def check_recording(text: str) -> float:
    """For the checks of a deploy: whether the variable can be read; the share.

    Raises:
        ValueError: it cannot.
    """
    spec = RecordingSpec.of({RECORD_VARIABLE: text})
    return spec.share if spec is not None else 0.0


_LISTS = {"header": "headers", "ignore": "ignore"}
_RULES = ("drop", "mask", "hash")
_SHORT = ("share", "max", "body", "keep", *_LISTS, *_RULES)


def _short(text: str) -> dict[str, Any]:
    """``key=value`` pairs, separated by commas.

    ``header``, ``ignore``, ``drop``, ``mask`` and ``hash`` may stand several times; all but the
    first name paths into JSON.
    """
    found: dict[str, Any] = {"headers": [], "ignore": [], "redact": []}
    for part in filter(None, (one.strip() for one in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in _SHORT:
            raise ValueError(f"must be JSON, or {'=,'.join(_SHORT)}= pairs, was {part!r}")
        if key in _LISTS:
            found[_LISTS[key]].append(value)
        elif key in _RULES:
            found["redact"].append({"path": value, "with": key})
        elif key in found:
            raise ValueError(f"names {key} twice")
        else:
            found[key] = value
    return found


def _in_words(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    if "was " not in message and error["type"] != "missing":
        message = f"{message}, was {error['input']!r}"
    return f"{where}: {message}" if where else message
