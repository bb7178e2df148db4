"""Keeps secrets in env out of listings and logs; a client may write the mask back unharmed."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from stoker.nouns.errors import InvalidFunction

MASK = "********"
DECLARED = "STOKER_SECRET_ENV"
"""A variable of the function that names more of its variables as secret, separated by commas."""

_SECRET_WORD = re.compile(
    r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|PWD|DSN)S?$", re.IGNORECASE
)
_COUNTS = frozenset({"MAX", "MIN", "NUM", "NEW"})
"""``MAX_NEW_TOKENS`` is a number of tokens, not a token."""
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


def secret_values(document: Mapping[str, Any]) -> dict[str, str]:
    """The secret variables of a function document: name -> value, as text."""
    variables = _env(document)
    declared = _declared(variables)
    return {
        str(variable["name"]): str(variable["value"])
        for variable in variables
        if variable.get("value") not in (None, "") and is_secret(str(variable["name"]), declared)
    }


def masked(document: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the document with `MASK` in place of each secret value."""
    result: dict[str, Any] = copy.deepcopy(dict(document))
    secrets = secret_values(document)
    for variable in _env(result):
        if str(variable["name"]) in secrets:
            variable["value"] = MASK
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
    lost = [
        str(v["name"]) for v in _env(result) if v.get("value") == MASK and v["name"] not in known
    ]
    if lost:
        fields = [
            {
                "field": f"spec.env[{name}].value",
                "message": f"must be the value, was the mask {MASK}",
            }
            for name in lost
        ]
        text = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
        raise InvalidFunction(f"invalid function: {text}", fields=fields)
    for variable in _env(result):
        if variable.get("value") == MASK:
            variable["value"] = known[variable["name"]]
    return result


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
