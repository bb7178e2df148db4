"""Devices fill up, fall off the bus and come back; replicas and the ledger follow."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from stoker.controller.happenings import DevicesSeen
from stoker.controller.overview import overview
from stoker.decide.foreign import foreign_bytes
from stoker.nouns.device import STRANGER, Device, DeviceKind, DeviceSeen, DeviceUse
from stoker.nouns.record import FunctionState

MIB = 1024**2
ZERO = {
    "minReplicas": 0,
    "scaleToZero": {"scaleResources": [{"metricName": "x", "windowSize": "10s"}]},
}


def needs(gpus: int, each: str | None = None, **spec: Any) -> dict[str, Any]:
    env = [{"name": "STOKER_GPU_MEMORY", "value": f"{each}MiB"}] if each else []
    return {"resources": {"limits": {"nvidia.com/gpu": gpus}}, "env": env, **spec}


def seen(*lost: str, **uses: DeviceUse) -> DevicesSeen:
    """The two devices of the stage, less the lost ones."""
    return DevicesSeen(
        tuple(
            DeviceSeen(
                Device(name, DeviceKind.CUDA, 16 * MIB, "card", (9, 0)),
                uses.get(name.replace("-", "_"), DeviceUse()),
            )
            for name in ("SIM-0", "SIM-1")
            if name not in lost
        )
    )


def foreign(count: int) -> DeviceUse:
    return DeviceUse(count * MIB, ((STRANGER, count * MIB),))


@pytest.mark.parametrize(
    ("use", "promised", "others"),
    [
        (DeviceUse(), 8, 0),
        (DeviceUse(5, ((1, 5),)), 8, 0),
        (DeviceUse(9, ((1, 9),)), 8, 0),  # more than promised, but ours
        (DeviceUse(9, ((1, 5), (2, 4))), 8, 4),
        (DeviceUse(10, ((1, 5), (2, 4))), 8, 4),  # the driver's own, within the promise
        (DeviceUse(14, ((1, 8), (2, 4))), 8, 6),
        (DeviceUse(12), 8, 4),  # pids hidden: the promise is ours, the rest is not
        (DeviceUse(4), 8, 0),
        (DeviceUse(3, ((2, 4),)), 0, 4),
    ],
)
def test_what_is_not_ours_is_foreign(use: DeviceUse, promised: int, others: int) -> None:
    assert foreign_bytes(use, {1}, promised) == others


def test_a_replica_is_placed_around_what_others_hold(gpus: Any) -> None:
    gpus.happen(seen(SIM_0=foreign(13)))
    assert gpus.serve("small", **needs(1, "4")).devices == ("SIM-1",)
    assert gpus.serve("tiny", **needs(1, "3")).devices == ("SIM-0",)


def test_foreign_bytes_end_nobody_and_promise_nothing_twice(gpus: Any) -> None:
    gpus.happen(seen())
    replica = gpus.serve("one", **needs(1, "8"))
    (device,) = replica.devices
    pid = replica.slots[0].pid
    gpus.happen(
        seen(
            **{
                device.replace("-", "_"): DeviceUse(
                    16 * MIB, ((pid, 6 * MIB), (STRANGER, 10 * MIB))
                )
            }
        )
    )
    gpus.after(5)
    assert not replica.draining
    assert gpus.effects.killed == []
    assert gpus.world.ledger.free()[device] == 0
    gpus.happen(seen(**{device.replace("-", "_"): DeviceUse(6 * MIB, ((pid, 6 * MIB),))}))
    assert gpus.world.ledger.free()[device] == 8 * MIB


def test_a_card_with_a_display_on_it_can_still_be_given_whole(gpus: Any) -> None:
    gpus.happen(seen(SIM_0=foreign(1), SIM_1=foreign(9)))
    replica = gpus.serve(**needs(1))
    assert replica.devices == ("SIM-1",)
    assert gpus.world.ledger.free() == {"SIM-0": 15 * MIB, "SIM-1": 0}


def test_the_replicas_of_a_lost_device_leave_at_once_and_start_elsewhere(gpus: Any) -> None:
    gpus.happen(seen())
    replica = gpus.serve(**needs(1, "8"))
    assert replica.devices == ("SIM-0",)
    gpus.happen(seen("SIM-0"))
    assert replica.draining
    assert gpus.effects.killed[-1][2:] == (replica.slots[0].pid, signal.SIGKILL)
    assert f"device SIM-0 is lost: replica {replica.id} leaves it at once" in gpus.log()
    assert gpus.effects.worker_logs[-1] == "the worker is ended: device SIM-0 is lost"
    gpus.after(0.25)
    (other,) = [r for r in gpus.world.replicas_of("fn") if not r.draining]
    assert other.devices == ("SIM-1",)
    gpus.dies(replica, status=-9)
    assert gpus.world.functions["fn"].crashes == []
    gpus.happen(seen("SIM-0"))
    assert gpus.log().count("is lost") == 1


def test_a_replica_that_drains_already_is_ended_when_its_device_is_lost(gpus: Any) -> None:
    gpus.happen(seen())
    replica = gpus.serve(**needs(1, "8"), **ZERO)
    gpus.quiet()
    gpus.after(10.5)
    assert replica.draining
    assert gpus.effects.killed == []
    gpus.happen(seen("SIM-0"))
    assert gpus.effects.killed[-1][3] == signal.SIGKILL


def test_a_lost_device_takes_no_replica_until_it_is_back(gpus: Any) -> None:
    gpus.happen(seen("SIM-0"))
    gpus.happen(seen("SIM-0"))
    assert gpus.serve("one", **needs(1, "8")).devices == ("SIM-1",)
    assert gpus.serve("two", **needs(1, "8")).devices == ("SIM-1",)
    gpus.built(gpus.deploy("three", **needs(1, "8")), "three")
    assert gpus.world.replicas_of("three") == []
    gpus.happen(seen())
    gpus.after(0.25)
    assert gpus.replica("three").devices == ("SIM-0",)


def test_a_function_that_needs_more_devices_than_are_left_says_so_and_recovers(gpus: Any) -> None:
    gpus.happen(seen())
    replica = gpus.serve(**needs(2))
    gpus.happen(seen("SIM-1"))
    gpus.dies(replica, status=-9)
    gpus.after(0.25)
    assert gpus.record().state is FunctionState.UNHEALTHY
    assert gpus.record().message == "needs 2 GPU(s); 1 of 2 are left: SIM-1 lost"
    gpus.happen(seen())
    gpus.after(0.25)
    again = gpus.replica()
    gpus.started(again)
    gpus.ready(again)
    assert (gpus.record().state, gpus.record().message) == (FunctionState.READY, "")


def test_with_every_device_lost_a_function_does_not_slip_onto_the_cpu(gpus: Any) -> None:
    gpus.happen(seen())
    replica = gpus.serve(**needs(1, "8"))
    gpus.happen(seen("SIM-0", "SIM-1"))
    gpus.dies(replica, status=-9)
    gpus.after(1)
    assert gpus.world.replicas_of("fn") == []
    assert "0 of 2 are left" in gpus.record().message


def test_a_deployment_that_lost_devices_keep_out_says_which(gpus: Any) -> None:
    gpus.happen(seen())
    gpus.happen(seen("SIM-0"))
    gpus.built(gpus.deploy(**needs(2)))
    assert gpus.record().state is FunctionState.ERROR
    assert "SIM-0 lost" in gpus.record().message


def test_a_deployment_waits_for_what_other_programs_hold(gpus: Any) -> None:
    gpus.happen(seen(SIM_0=foreign(10), SIM_1=foreign(10)))
    gpus.built(gpus.deploy(**needs(1, "8")))
    assert (
        "held by other programs (10.0 MiB of SIM-0), other programs (10.0 MiB of SIM-1)"
        in gpus.log()
    )
    gpus.happen(seen(SIM_0=foreign(10)))
    gpus.after(0.25)
    assert gpus.replica().devices == ("SIM-1",)


def test_a_controller_that_comes_back_ends_replicas_of_a_device_lost_meanwhile(gpus: Any) -> None:
    gpus.happen(seen())
    replica = gpus.serve(**needs(1, "8"))
    other = gpus.restart_controller(seen("SIM-0"))
    adopted = other.replica()
    assert adopted.devices == ("SIM-0",)
    other.happen(seen("SIM-0"))
    assert adopted.draining
    assert other.effects.killed[-1][2] == replica.slots[0].pid


def test_the_overview_tells_promised_foreign_and_used(gpus: Any) -> None:
    gpus.happen(seen())
    replica = gpus.serve(**needs(1, "8"))
    pid = replica.slots[0].pid
    use = DeviceUse(9 * MIB, ((pid, 5 * MIB), (STRANGER, 4 * MIB)), 0.25)
    gpus.happen(seen("SIM-1", SIM_0=use))
    rows = overview(gpus.world)["devices"]
    first = rows["SIM-0"]
    shares = ("capacity_bytes", "promised_bytes", "foreign_bytes", "used_bytes", "utilisation")
    assert [first[name] for name in shares] == [16 * MIB, 8 * MIB, 4 * MIB, 9 * MIB, 0.25]
    assert (first["capability"], first["kind"], first["lost"]) == ("9.0", "cuda", False)
    assert first["replicas"] == [replica.id]
    assert rows["SIM-1"]["lost"]
