"""Names the step of a graph in which an error arose: mlrun's own errors name only its class."""

from __future__ import annotations

from types import TracebackType

_STEPS = "mlrun.serving.states"


def blame_step(error: BaseException) -> None:
    """Adds to the error which step of the graph it came from, when it came from one."""
    name = _step_in(error.__traceback__)
    if name:
        what = f"{type(error).__name__}: {error}"
        error.add_note(f"step {name!r} of the graph cannot be started: {what}")


def _step_in(trace: TracebackType | None) -> str:
    """The innermost step whose method was running; the graph itself is none."""
    found = ""
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if type(owner).__module__ == _STEPS and getattr(owner, "kind", "root") != "root":
            found = str(getattr(owner, "fullname", "") or getattr(owner, "name", "")) or found
        trace = trace.tb_next
    return found
