"""Brings the winner into service and follows its canary until it is promoted or rolled back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from stoker.nouns.errors import Conflict
from stoker.nouns.rollout import CanarySpec
from stoker.quality.platform import Platform

POLL_S = 0.5
_SAID_EVERY_S = 10.0
_PATIENCE = 2.0
_LONGER_S = 60.0
"""A canary that is not called waits for requests, maybe for days. Who follows it does not: beyond
so many of its lengths, and so many seconds more, the platform goes on with it alone."""
_ENDS = {"promoted": True, "rolled_back": False, "aborted": False, "superseded": False}


def roll_out(
    platform: Platform,
    document: dict[str, Any],
    canary: CanarySpec | None,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Deploys, and waits for the end of the canary, where there is one.

    Returns:
        ``{"state", "revision", "words", …}``: state is ``promoted``, ``rolled_back``, ``aborted``,
        ``superseded`` or ``failed``, or ``running`` for a canary that still waits for requests;
        with a canary also what the platform says of it.

    Raises:
        Conflict: a canary of this function is under way already.
    """
    name = document["metadata"]["name"]
    if _running(platform.rollout(name)):
        raise Conflict(
            f"a canary of {name} is under way: wait for it, or end it: stoker rollout abort {name}"
        )
    tell(f"rolling out {name}")
    function = platform.deploy(document, lambda line: tell(f"  {line}"))
    status = function["status"]
    revision = int(function["deployed"])
    if status["state"] in ("error", "unhealthy"):
        words = f"the rollout failed: {status.get('message') or status['state']}"
        return {"state": "failed", "revision": revision, "words": words}
    if canary is None:
        return {"state": "promoted", "revision": revision, "words": "it serves, at once"}
    return _followed(platform, name, revision, canary, tell)


def rolled_back(rollout: Mapping[str, Any] | None) -> bool:
    """Whether a rollout ended otherwise than with the new revision serving."""
    return rollout is not None and rollout.get("state") not in ("promoted", "running")


def by_now(platform: Platform, name: str, rollout: dict[str, Any] | None) -> dict[str, Any] | None:
    """What has become of a rollout whose canary was left running; others are over."""
    if rollout is None or rollout.get("state") != "running":
        return rollout
    revision, found = int(rollout["revision"]), platform.rollout(name)
    ended = end_of(found, revision)
    if ended is not None:
        return ended
    if _running(found):
        return _under_way(name, revision, found)
    return _without(platform, name, revision, found)


def _followed(
    platform: Platform,
    name: str,
    revision: int,
    canary: CanarySpec,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    tell(
        f"canary of revision {revision}: {canary.share:.0%} of the requests for "
        f"{canary.length_s:g} s, at least {canary.min_requests} of them"
    )
    said, deadline = 0.0, time.monotonic() + _PATIENCE * canary.length_s + _LONGER_S
    while True:
        found = platform.rollout(name)
        ended = end_of(found, revision)
        if ended is not None:
            tell(ended["words"])
            return ended
        if not _running(found):
            return _without(platform, name, revision, found)
        if time.monotonic() > deadline:
            return _under_way(name, revision, found)
        if time.monotonic() - said > _SAID_EVERY_S:
            said = time.monotonic()
            tell(f"  {progress_of(found)}")
        time.sleep(POLL_S)


def _under_way(name: str, revision: int, found: Mapping[str, Any] | None) -> dict[str, Any]:
    words = (
        f"revision {revision} is still a canary ({progress_of(found)}); the platform promotes it "
        f"or rolls it back: stoker rollout status {name}"
    )
    return {"state": "running", "revision": revision, "words": words}


def end_of(found: Mapping[str, Any] | None, revision: int) -> dict[str, Any] | None:
    """How the canary of that revision ended, by the rollout's history; None: it has not."""
    for event in reversed((found or {}).get("history") or []):
        if event.get("revision") == revision and event.get("step") in _ENDS:
            state = str(event["step"])
            words = f"{state.replace('_', ' ')}: {event.get('why') or 'no reason was given'}"
            return {
                "state": state, "revision": revision, "words": words,
                "event": dict(event), "history": list((found or {}).get("history") or []),
            }  # fmt: skip
    return None


def progress_of(found: Mapping[str, Any] | None) -> str:
    """A line about a canary that runs: how long for, and what is known of it."""
    canary = (found or {}).get("canary") or {}
    return (
        f"canary for {float(canary.get('ranS') or 0):.0f} s: {canary.get('verdict') or 'running'}"
    )


def _running(found: Mapping[str, Any] | None) -> bool:
    return bool((found or {}).get("canary"))


def _without(
    platform: Platform, name: str, revision: int, found: Mapping[str, Any] | None
) -> dict[str, Any]:
    """No canary runs, and none of this revision is told to have ended: by what serves."""
    function = platform.function(name)
    serving = (function or {}).get("status", {}).get("servingRevision")
    if serving == revision:
        words = "it serves, without a canary: the platform runs none"
        return {"state": "promoted", "revision": revision, "words": words, "found": found}
    words = f"revision {serving} serves, not the new one ({revision}), and no canary runs"
    return {"state": "failed", "revision": revision, "words": words, "found": found}
