"""``/api/rollouts``: how canaries stand, what became of earlier ones, and their end by hand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.api import submit
from stoker.api.reply import Json, json_body
from stoker.api.view import record_secrets
from stoker.api.who import who_of
from stoker.decide.canary import judge, shown
from stoker.nouns.errors import BadRequest, Conflict
from stoker.nouns.evidence import Evidence, newest
from stoker.nouns.record import Canary, Demand, FunctionRecord
from stoker.nouns.rollout import Asked, RolloutEvent, Verb
from stoker.nouns.secrecy import mask_text
from stoker.store import Store

Gateways = Mapping[str, Mapping[str, Demand]]


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The resource."""

    store: Store

    def routes(self) -> list[Route]:
        """Its routes."""
        root, one = "/api/rollouts", "/api/rollouts/{name}"
        return [
            Route(root, self.list_all, methods=["GET"]),
            Route(one, self.read, methods=["GET"]),
            Route(one + "/promote", self.promote, methods=["POST"]),
            Route(one + "/abort", self.abort, methods=["POST"]),
        ]

    async def list_all(self, _request: Request) -> Response:
        """The canaries that there are now, by function."""
        functions, demand = await self.store.list_functions(), await self.store.read_demand()
        return Json(
            {
                name: canary_row(record, demand)
                for name, record in sorted(functions.items())
                if record.canary is not None
            }
        )

    async def read(self, request: Request) -> Response:
        """One function's canary, or null, and its history, oldest first."""
        record = await submit.find(self.store, request.path_params["name"])
        return Json(await self._document(record))

    async def promote(self, request: Request) -> Response:
        """Has the canary serve, whatever was counted so far."""
        return await self._ask(request, Verb.PROMOTE)

    async def abort(self, request: Request) -> Response:
        """Ends the canary; what serves goes on serving."""
        return await self._ask(request, Verb.ABORT)

    async def _ask(self, request: Request, verb: Verb) -> Response:
        name = request.path_params["name"]
        body = await json_body(request) if await request.body() else {}
        asked = Asked(
            verb=verb,
            who=who_of(request, _text(body, "who")),
            why=_text(body, "why"),
            at=time.time(),
        )

        def change(record: FunctionRecord) -> FunctionRecord:
            return _with_asked(record, asked)

        await submit.find(self.store, name)
        record = await self.store.update_function(name, change)
        return Json(await self._document(record), status_code=202)

    async def _document(self, record: FunctionRecord) -> dict[str, Any]:
        # A namesake that was deleted had canaries of its own.
        events = await self.store.read_rollout_events(record.name, since=record.created_at)
        secrets = record_secrets(record)
        return {
            "function": record.name,
            "servingRevision": record.serving.number if record.serving else None,
            "canary": canary_row(record, await self.store.read_demand()),
            "history": [_event(event, secrets) for event in events],
        }


def canary_row(record: FunctionRecord, gateways: Gateways) -> dict[str, Any] | None:
    """How a canary stands, by what the gateways say now; None when there is none."""
    canary = record.canary
    if canary is None:
        return None
    seen = evidence(canary, record.name, gateways)
    return {
        "revision": canary.revision.number,
        "servingRevision": record.serving.number if record.serving else None,
        "share": canary.share,
        "startedAt": canary.started_at,
        "ranS": round(canary.ran_s, 1),
        "who": canary.revision.who,
        "spec": canary.spec.model_dump(mode="json"),
        "evidence": shown(seen),
        "verdict": judge(canary.spec, seen, elapsed_s=canary.ran_s).why,
        "asked": canary.asked.model_dump(mode="json") if canary.asked else None,
    }


def evidence(canary: Canary, name: str, gateways: Gateways) -> Evidence:
    """What the controller wrote last of a canary, brought up to now."""
    told = [
        seen.tally
        for demand in gateways.values()
        if (seen := demand.get(name)) is not None and seen.tally is not None
    ]
    return Evidence.of(newest(canary.tallies, told, canary.revision.number).values())


def _with_asked(record: FunctionRecord, asked: Asked) -> FunctionRecord:
    canary = record.canary
    if canary is None:
        coming = record.candidate
        hint = f"; revision {coming.number} is {record.state.value}" if coming else ""
        raise Conflict(f"function {record.name} has no canary to {asked.verb}{hint}")
    overruled = canary.asked and canary.asked.verb is Verb.PROMOTE and asked.verb is Verb.ABORT
    if canary.asked is not None and not overruled:
        raise Conflict(
            f"revision {canary.revision.number} of {record.name}: {canary.asked.who} has asked to "
            f"{canary.asked.verb} it already"
        )
    return record.model_copy(update={"canary": canary.model_copy(update={"asked": asked})})


def _event(event: RolloutEvent, secrets: set[str]) -> dict[str, Any]:
    # What a worker died of may quote a secret.
    return event.model_dump(mode="json") | {"why": mask_text(event.why, secrets)}


def _text(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field) or ""
    if not isinstance(value, str):
        raise BadRequest(f"{field} must be a text, was {type(value).__name__}")
    return value
