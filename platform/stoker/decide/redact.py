"""What of a request and its answer may be written: the declared rules, carried out.

Whatever a rule cannot be carried out on is not written at all: `Unredactable`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from stoker.nouns.exchange import Exchange, Message
from stoker.nouns.recording import RecordingSpec, Redaction, path_parts
from stoker.nouns.secrecy import MASK, mask_text

_HASH_CHARACTERS = 16
"""Of the hex digest: 64 bits tell apart more values than any recording holds."""
_HASHED = re.compile(rf"hash:[0-9a-f]{{{_HASH_CHARACTERS}}}")
_TIGHT = (",", ":")
_FORM = "application/x-www-form-urlencoded"
_DEEPEST = 64
"""Levels of JSON; what is deeper is not written, because it could not be looked through."""


class Unredactable(Exception):
    """A declared rule cannot be carried out on this request or answer: it must not be written."""


class Redactor:
    """The rules of one function, ready to be applied.

    Args:
        spec: what is declared.
        key: of the hashes; with another one, equal values are no longer equal.
        secrets: values that are masked wherever they stand, as in logs.
    """

    def __init__(self, spec: RecordingSpec, key: bytes, secrets: Iterable[str] = ()) -> None:
        self._key = key
        self._secrets = tuple(secrets)
        self._paths = [(rule, path_parts(rule.path)) for rule in spec.redact if rule.path]
        self._patterns = [(rule, re.compile(rule.pattern)) for rule in spec.redact if rule.pattern]
        self._queries = [rule for rule in spec.redact if rule.query]
        self._headers = {rule.header: rule for rule in spec.redact if rule.header}

    def exchange(self, exchange: Exchange) -> Exchange:
        """What of it may be written, and which rules have changed it.

        Raises:
            Unredactable: nothing.
        """
        seen: set[str] = set()
        path = self._path(exchange.path, seen)
        request = self.message(exchange.request, seen)
        answered: set[str] = set()
        answer = self.message(exchange.answer, answered)
        return replace(
            exchange,
            path=path,
            request=request,
            answer=answer,
            altered=tuple(sorted(seen)),
            answer_altered=tuple(sorted(answered)),
        )

    def message(self, message: Message, seen: set[str] | None = None) -> Message:
        """What of one message may be written; ``seen`` is told the rules that changed it.

        Raises:
            Unredactable: nothing.
        """
        seen = set() if seen is None else seen
        headers = dict(self._header(name, value, seen) for name, value in message.headers.items())
        kept = {name: value for name, value in headers.items() if value is not None}
        return Message(kept, self._body(message, seen))

    # -- inside

    def _header(self, name: str, value: str, seen: set[str]) -> tuple[str, str | None]:
        rule = self._headers.get(name)
        if rule is not None:
            seen.add(rule.words)
            return name, None if rule.how == "drop" else self._instead(rule, value)
        return name, self._masked(self._text(value, seen), seen)

    def _path(self, path: str, seen: set[str]) -> str:
        before, mark, query = path.partition("?")
        if mark and (self._queries or self._patterns):
            query = self._query(query, seen)
        # Quoted, a value would slip through a pattern: ``me%40home``.
        plain = unquote(before)
        redacted = self._text(plain, seen)
        before = before if redacted == plain else quote(redacted)
        return self._masked(f"{before}?{query}" if query else before, seen)

    def _query(self, query: str, seen: set[str]) -> str:
        """A query string, or a form."""
        rules = {rule.query: rule for rule in self._queries}
        kept, own = [], set[str]()
        for name, value in parse_qsl(query, keep_blank_values=True):
            rule = rules.get(name)
            if rule is None:
                kept.append((self._text(name, own), self._text(value, own)))
                continue
            own.add(rule.words)
            if rule.how != "drop":
                kept.append((name, self._instead(rule, value)))
        seen |= own
        return urlencode(kept) if own else query

    def _body(self, message: Message, seen: set[str]) -> bytes:
        body = message.body
        if not body:
            return body
        if self._paths or self._patterns or self._queries:
            body = self._declared(body, message.content_type, seen)
        text = body.decode("utf-8", "surrogateescape")
        return self._masked(text, seen).encode("utf-8", "surrogateescape")

    def _declared(self, body: bytes, content_type: str, seen: set[str]) -> bytes:
        own: set[str] = set()
        try:
            document = json.loads(body, object_pairs_hook=_members)
        except RecursionError:
            raise _too_deep() from None
        except ValueError:
            if self._paths:
                raise Unredactable(
                    "rules with a path are declared, and the body is not JSON"
                ) from None
            changed = self._plain(body, content_type, own)
        else:
            document = self._document(document, own)
            whole = document is not _DROPPED
            changed = json.dumps(document, separators=_TIGHT).encode() if whole else b""
        seen |= own
        # Untouched, it keeps its spelling: replayed, it is the very request that came.
        return changed if own else body

    def _document(self, document: Any, seen: set[str]) -> Any:
        for rule, parts in self._paths:
            document = _at(document, parts, self._replacer(rule, seen))
        if self._patterns:
            document = _strings(document, lambda text: self._text(text, seen))
        return document

    def _plain(self, body: bytes, content_type: str, seen: set[str]) -> bytes:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise _no_text() from None
        if "\0" in text:
            # UTF-16 passes for UTF-8 that no pattern matches.
            raise _no_text()
        if content_type.startswith(_FORM):
            return self._query(text, seen).encode()
        return self._text(text, seen).encode()

    def _replacer(self, rule: Redaction, seen: set[str]) -> Callable[[Any], Any]:
        def change(value: Any) -> Any:
            seen.add(rule.words)
            return _DROPPED if rule.how == "drop" else self._instead(rule, value)

        return change

    def _text(self, text: str, seen: set[str]) -> str:
        for rule, pattern in self._patterns:
            text, count = pattern.subn(lambda found: self._instead(rule, found[0]), text)  # noqa: B023
            if count:
                seen.add(rule.words)
        return text

    def _instead(self, rule: Redaction, value: Any) -> str:
        if rule.how != "hash":
            return MASK
        shown = value if isinstance(value, str) else json.dumps(value)
        if _HASHED.fullmatch(shown):
            # A replayed request's: hashed again, its answer would differ from the recorded one.
            return shown
        digest = hmac.new(self._key, shown.encode("utf-8", "surrogateescape"), hashlib.sha256)
        return f"hash:{digest.hexdigest()[:_HASH_CHARACTERS]}"

    def _masked(self, text: str, seen: set[str]) -> str:
        masked = mask_text(text, self._secrets)
        if masked != text:
            seen.add("the function's secrets")
        return masked


_DROPPED: Any = object()
"""Stands for what a rule takes away."""


def _no_text() -> Unredactable:
    return Unredactable("rules are declared that read text, and the body is not UTF-8 text")


def _too_deep() -> Unredactable:
    return Unredactable(f"the body is nested deeper than {_DEEPEST} levels")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        # The first of the two would be written without having been looked at.
        raise Unredactable("the body is JSON with an object that names a member twice")
    return members


def _at(value: Any, parts: list[str], change: Callable[[Any], Any], depth: int = 0) -> Any:
    """The value with everything at a path changed."""
    if depth > _DEEPEST:
        raise _too_deep()
    if not parts:
        return change(value)
    first, rest = parts[0], parts[1:]
    if first == "**":
        value = _at(value, rest, change, depth + 1) if rest else change(value)
        return _children(value, lambda _, child: _at(child, parts, change, depth + 1))
    return _children(
        value,
        lambda name, child: (
            _at(child, rest, change, depth + 1) if first in ("*", str(name)) else child
        ),
    )


def _children(value: Any, change: Callable[[Any, Any], Any]) -> Any:
    if isinstance(value, dict):
        changed = {name: change(name, child) for name, child in value.items()}
        return {name: child for name, child in changed.items() if child is not _DROPPED}
    if isinstance(value, list):
        rows = [change(index, child) for index, child in enumerate(value)]
        return [child for child in rows if child is not _DROPPED]
    return value


def _strings(value: Any, change: Callable[[str], str], depth: int = 0) -> Any:
    """The value with every text in it changed.

    Names of members too, and numbers, whose digits may be what a pattern is after.
    """
    if depth > _DEEPEST:
        raise _too_deep()
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(name): _strings(child, change, depth + 1) for name, child in value.items()}
    if isinstance(value, list):
        return [_strings(child, change, depth + 1) for child in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        shown = json.dumps(value)
        changed = change(shown)
        return value if changed == shown else changed
    return value
