"""Taking the weights off the device and bringing them back, told in the worker's log."""

from __future__ import annotations

import time
import traceback

from stoker.sdk.sleep import Sleepers, Step
from stoker.worker.log import WorkerLog


class Rest:
    """What of this worker can leave its device."""

    def __init__(self, sleepers: Sleepers, log: WorkerLog) -> None:
        self._sleepers = sleepers
        self._log = log

    @property
    def possible(self) -> bool:
        """There is something that can leave."""
        return bool(self._sleepers)

    def sleep(self) -> str:
        """The weights leave; a traceback if they could not, empty when they have left."""
        return self._try(self._sleepers.sleep, "asleep", "sleep")

    def wake(self) -> str:
        """The weights come back; a traceback if they could not, empty when they are back."""
        return self._try(self._sleepers.wake, "awake", "wake")

    def _try(self, step: Step, done: str, verb: str) -> str:
        began = time.monotonic()
        try:
            step()
        except Exception as exc:
            error = "".join(traceback.format_exception(exc)).rstrip()
            self._log.write("error", f"cannot {verb}: {error}")
            return error
        self._log.write("info", done, {"seconds": round(time.monotonic() - began, 4)})
        return ""
