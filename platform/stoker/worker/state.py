"""What a worker tells of itself."""

from __future__ import annotations

import os

import orjson

from stoker.models.held import SHORTAGES, device_peak
from stoker.nouns.launch import WorkerLaunch
from stoker.nouns.record import Phase
from stoker.nouns.wire import Kind, State, frame


def state_frame(
    launch: WorkerLaunch, phase: Phase, sleeps: bool, error: str, *, to_controller: bool
) -> bytes:
    """The STATE frame of now; bytes of devices are for the controller, who reckons with them."""
    state: State = {
        "phase": str(phase),
        "permits": launch.permits,
        "pid": os.getpid(),
        "replica": launch.replica,
        "index": launch.index,
    }
    if sleeps:
        state["sleeps"] = True
    if error:
        state["error"] = error
    if to_controller and (peak := device_peak(os.environ)):
        state["device_bytes"] = peak
    if to_controller and SHORTAGES.times:
        state["short_times"], state["short_bytes"] = SHORTAGES.times, SHORTAGES.needed
    return frame(Kind.STATE, 0, orjson.dumps(state))
