"""Functions and projects: what users have deployed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import orjson
from pydantic import ValidationError

from stoker.nouns.errors import Conflict, FunctionNotFound, RecordUnreadable
from stoker.nouns.record import FunctionRecord
from stoker.store import keys
from stoker.store.link import Link

log = logging.getLogger(__name__)

SWAPS = 64
"""Tries of one update; each lost try means that another writer got through."""


class Functions:
    """Function records in one hash; every write is announced."""

    _link: Link
    _unreadable: frozenset[str] = frozenset()
    """Single writer: `list_functions`."""

    async def create_function(self, record: FunctionRecord) -> None:
        """Adds a function.

        Raises:
            Conflict: the name exists.
        """
        created = await self._link.announcing(
            "function_create", [keys.FUNCTIONS], record.name, record.model_dump_json()
        )
        if not created:
            raise Conflict(f"a function named {record.name!r} exists already")

    async def put_function(self, record: FunctionRecord) -> None:
        """Writes a function, whatever was there."""
        await self._link.announcing(
            "function_put", [keys.FUNCTIONS], record.name, record.model_dump_json()
        )

    async def update_function(
        self, name: str, change: Callable[[FunctionRecord], FunctionRecord]
    ) -> FunctionRecord:
        """Applies ``change`` to the newest record; it may run several times, so keep it pure.

        A change that changes nothing writes nothing and announces nothing.

        Raises:
            FunctionNotFound: there is none of that name.
            RecordUnreadable: there is one, and it cannot be read.
            Conflict: too many others kept writing it.
        """
        for _ in range(SWAPS):
            raw = await self._link.call("HGET", keys.FUNCTIONS, name)
            if raw is None:
                raise FunctionNotFound(f"there is no function named {name!r}")
            changed = change(_read(name, raw))
            written = changed.model_dump_json().encode()
            if written == raw or await self._link.announcing(
                "function_swap", [keys.FUNCTIONS], name, raw, written
            ):
                return changed
        raise Conflict(f"function {name!r} is being changed by too many writers at once")

    async def get_function(self, name: str) -> FunctionRecord | None:
        """The record, or None.

        Raises:
            RecordUnreadable: there is one, and it cannot be read.
        """
        raw = await self._link.call("HGET", keys.FUNCTIONS, name)
        return None if raw is None else _read(name, raw)

    async def list_functions(self) -> dict[str, FunctionRecord]:
        """All records by name.

        One that cannot be read is logged, left out, and named by `unreadable_functions`.
        """
        found: dict[str, FunctionRecord] = {}
        unreadable: set[str] = set()
        for raw_name, raw in (await self._link.call("HGETALL", keys.FUNCTIONS)).items():
            name = raw_name.decode()
            try:
                found[name] = _read(name, raw)
            except RecordUnreadable as error:
                log.error("%s", error)
                unreadable.add(name)
        self._unreadable = frozenset(unreadable)
        return found

    def unreadable_functions(self) -> frozenset[str]:
        """Names that the last `list_functions` left out: these are there, not deleted."""
        return self._unreadable

    async def delete_function(self, name: str) -> bool:
        """Forgets a function; False if there was none."""
        return bool(await self._link.announcing("function_delete", [keys.FUNCTIONS], name))


def _read(name: str, raw: bytes) -> FunctionRecord:
    try:
        return FunctionRecord.model_validate_json(raw)
    except ValidationError as error:
        raise RecordUnreadable(
            f"the record of function {name!r} in Redis cannot be read: {error}"
        ) from error


class Projects:
    """Project documents in one hash. Not announced: nobody but their readers needs them."""

    _link: Link

    async def put_project(self, name: str, document: dict[str, Any]) -> None:
        """Writes a project, whatever was there."""
        await self._link.call("HSET", keys.PROJECTS, name, orjson.dumps(document))

    async def get_project(self, name: str) -> dict[str, Any] | None:
        """The document, or None."""
        raw = await self._link.call("HGET", keys.PROJECTS, name)
        return None if raw is None else _document(raw)

    async def list_projects(self) -> dict[str, dict[str, Any]]:
        """All documents by name."""
        found = await self._link.call("HGETALL", keys.PROJECTS)
        return {name.decode(): _document(raw) for name, raw in found.items()}

    async def delete_project(self, name: str) -> bool:
        """Forgets a project; False if there was none."""
        return bool(await self._link.call("HDEL", keys.PROJECTS, name))


def _document(raw: bytes) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(raw)
    return document
