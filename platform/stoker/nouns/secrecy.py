"""Keeps a function's secrets out of listings and logs; a client may write the mask back unharmed.

Secret are variables with a name that says so, and the passwords of triggers and of code sources,
those inside a source's URL included.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from stoker.nouns.errors import InvalidFunction
from stoker.nouns.source_url import url_secret, with_url_secret

MASK = "********"
DECLARED = "STOKER_SECRET_ENV"
"""A variable of the function that names more of its variables as secret, separated by commas."""

_SECRET_WORD = re.compile(
    r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|PWD|DSN)S?$", re.IGNORECASE
)
_COUNTS = frozenset({"MAX", "MIN", "NUM", "NEW"})
"""``MAX_NEW_TOKENS`` is a number of tokens, not a token."""
_SECRET_FIELDS = frozenset(
    {
        "password",
        "secret",
        "clientsecret",
        "accesskey",
        "accesscertificate",
        "s3secretaccesskey",
        "s3sessiontoken",
        "secretaccesskey",
        "x-v3io-session-key",
        "authorization",
    }
)
"""Fields of a trigger, or of where the code comes from, in any case."""
_SOURCE_URLS = ("path", "source")
"""Where Nuclio's ``build`` and MLRun's say where the code is."""
_REFERENCE = "$"
"""``$generate`` and ``$ref:…`` of MLRun stand for a secret and are none."""
_SHORTEST_IN_TEXT = 4
"""Shorter values would blot out harmless text in logs ("1", "on")."""
_SHORTEST_LINE = 8
"""Of a secret of several lines each is masked by itself: a log that wraps shows them apart."""
_QUOTED_TWICE = 2
"""A JSON document that stands as a message in a line of JSON."""
_URL_PASSWORD = re.compile(r"(?<=[?&])((?:password|username)=)[^&#]*", re.IGNORECASE)


def is_secret(name: str, declared: Iterable[str] = ()) -> bool:
    """Whether a variable's name says that its value must not be shown."""
    if name == DECLARED:
        return False
    if name in set(declared):
        return True
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    if words and words[-1].upper() == "TOKENS" and _COUNTS & {word.upper() for word in words}:
        return False
    return any(_SECRET_WORD.search(word) for word in words)


class _Place(NamedTuple):
    """Where a secret stands. ``name`` is a variable's, or the path of another field."""

    name: str
    field: str
    holder: dict[str, Any]
    key: str

    @property
    def value(self) -> Any:
        """What stands there."""
        return self.holder.get(self.key)

    def put(self, value: str) -> None:
        """Writes another value there."""
        self.holder[self.key] = value


class _UrlPlace(_Place):
    """The password or token inside a URL; the rest of the URL is shown."""

    @property
    def value(self) -> Any:
        return url_secret(str(self.holder[self.key]))

    def put(self, value: str) -> None:
        self.holder[self.key] = with_url_secret(str(self.holder[self.key]), value)


def secret_values(document: Mapping[str, Any]) -> dict[str, str]:
    """The secrets of a function document: name of the variable, or path -> value, as text."""
    return {place.name: str(place.value) for place in _secret_places(document)}


def masked(document: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the document with `MASK` in place of each secret value."""
    result: dict[str, Any] = copy.deepcopy(dict(document))
    for place in _secret_places(result):
        place.put(MASK)
    return result


def mask_text(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret value in it masked."""
    forms = {form for secret in secrets if secret != MASK for form in _forms(secret)}
    # The longest first: a part that is masked alone would leave the rest of the whole.
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


@lru_cache(maxsize=512)
def _forms(secret: str) -> frozenset[str]:
    """How a secret may stand in text: as it is, line by line, quoted by Python or by JSON."""
    if len(secret) < _SHORTEST_IN_TEXT:
        return frozenset()
    forms = {secret, repr(secret)[1:-1]}
    lines = (line.strip() for line in secret.splitlines())
    forms |= {line for line in lines if len(line) >= _SHORTEST_LINE}
    for _ in range(_QUOTED_TWICE):
        forms |= {
            json.dumps(form, ensure_ascii=ascii_only)[1:-1]
            for form in forms
            for ascii_only in (True, False)
        }
    return frozenset(forms)


def url_for_people(url: str) -> str:
    """A URL without the name and password in it.

    >>> url_for_people("redis://me:hunter2@host:6379/0?password=hunter2")
    'redis://host:6379/0?password=********'
    """
    scheme, mark, rest = url.partition("://")
    # A path may hold an @ of its own; what stands before it is then no password.
    if mark and not rest.startswith("/"):
        rest = rest.rpartition("@")[2]
    return _URL_PASSWORD.sub(rf"\1{MASK}", scheme + mark + rest)


def restored(document: Mapping[str, Any], *stored: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the document with each `MASK` replaced by the value stored for that variable.

    Args:
        document: what a client sent, perhaps read from a masked listing before.
        stored: the function's earlier documents, the newest first.

    Raises:
        InvalidFunction: a value is the mask and nothing is stored for that name.
    """
    result: dict[str, Any] = copy.deepcopy(dict(document))
    known: dict[str, str] = {}
    for earlier in reversed(stored):
        known.update(secret_values(earlier))
    places = [place for place in _places(result) if place.value == MASK]
    lost = [place for place in places if place.name not in known]
    if lost:
        message = f"must be the value, was the mask {MASK}"
        fields = [{"field": place.field, "message": message} for place in lost]
        text = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
        raise InvalidFunction(f"invalid function: {text}", fields=fields)
    for place in places:
        place.put(known[place.name])
    return result


def _secret_places(document: Mapping[str, Any]) -> list[_Place]:
    """Where something stands that must not be shown."""
    declared = _declared(_env(document))
    return [
        place
        for place in _places(document)
        if place.value not in (None, "")
        and (place.key != "value" or is_secret(place.name, declared))
        and not (place.key != "value" and str(place.value).startswith(_REFERENCE))
    ]


def _places(document: Mapping[str, Any]) -> list[_Place]:
    """Where a secret may stand: every variable, and the fields that are secret by their names."""
    places = [
        _Place(str(v["name"]), f"spec.env[{v['name']}].value", v, "value") for v in _env(document)
    ]
    spec = document.get("spec")
    if isinstance(spec, dict):
        places += _fields(spec.get("triggers"), "spec.triggers")
        build = spec.get("build")
        if isinstance(build, dict):
            path = "codeEntryAttributes"
            places += _fields(build.get(path), f"spec.build.{path}")
            places += _urls(build, "spec.build")
    return places


def _fields(part: Any, path: str) -> list[_Place]:
    if not isinstance(part, dict):
        return []
    places: list[_Place] = []
    for key, value in part.items():
        where = f"{path}.{key}"
        if isinstance(value, dict):
            places += _fields(value, where)
        elif str(key).lower() in _SECRET_FIELDS:
            places.append(_Place(where, where, part, key))
    return places


def _urls(build: dict[str, Any], path: str) -> list[_Place]:
    wheres = ((key, f"{path}.{key}") for key in _SOURCE_URLS if isinstance(build.get(key), str))
    return [_UrlPlace(where, where, build, key) for key, where in wheres]


def _env(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    spec = document.get("spec")
    variables = spec.get("env") if isinstance(spec, dict) else None
    if not isinstance(variables, list):
        return []
    return [v for v in variables if isinstance(v, dict) and v.get("name")]


def _declared(variables: list[dict[str, Any]]) -> list[str]:
    for variable in variables:
        if variable["name"] == DECLARED:
            return [name.strip() for name in str(variable.get("value") or "").split(",")]
    return []
