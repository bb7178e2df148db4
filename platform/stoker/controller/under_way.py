"""What a function is in the midst of: a deployment, and a canary that is watched."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from stoker.nouns.evidence import Evidence, Tally


class Stage(StrEnum):
    """How far the deployment of a candidate has come."""

    WAITING = "waiting"
    """For a driver's first answer: the candidate is built for the device that there is."""
    BUILDING = "building"
    PLACING = "placing"
    STARTING = "starting"
    PROMOTING = "promoting"


@dataclass(slots=True)
class Rollout:
    """The deployment of one candidate. ``recreate``: the old revision had to make room first."""

    number: int
    stage: Stage
    since: float
    recreate: bool = False
    waiting_told: bool = False


@dataclass(slots=True)
class Watch:
    """A canary that this controller watches; times are monotonic seconds.

    Attributes:
        number: its revision.
        ran_s: seconds that it has been watched for, by this controller and those before it.
        tallies: what was counted, by tally.
        looked_at, kept_at: when time was last added, when all this was last written.
        crashes: of its workers.
        failure: why it must be rolled back, whatever its rates are; empty: nothing.
        promoting_at: since when it is to serve, once it has the replicas for that.
        no_room_at: since when it has no replica because none fits.
        ending_at: its end was asked of the store then.
    """

    number: int
    ran_s: float = 0.0
    tallies: dict[str, Tally] = field(default_factory=dict)
    looked_at: float = 0.0
    kept_at: float = 0.0
    crashes: list[float] = field(default_factory=list)
    failure: str = ""
    promoting_at: float | None = None
    no_room_at: float | None = None
    ending_at: float | None = None

    @property
    def evidence(self) -> Evidence:
        """All that was counted."""
        return Evidence.of(self.tallies.values())

    def pass_time(self, now: float, *, counted: bool) -> None:
        """Time went by; while nobody knows what happens to requests, it does not count."""
        if counted:
            self.ran_s += now - self.looked_at
        self.looked_at = now

    def is_ending(self, now: float, limit_s: float) -> bool:
        """Its end was asked of the store less than ``limit_s`` seconds ago."""
        return self.ending_at is not None and now - self.ending_at < limit_s
