"""Whether a replica fits on empty devices."""

from __future__ import annotations

import pytest

from stoker.decide.fit import Shortfall, bytes_per_gpu, several_instances, shortfall, usable


@pytest.mark.parametrize(
    ("per_worker", "workers", "gpus", "capacity", "expected"),
    [
        (4, 4, 1, [16], None),
        (4, 5, 1, [16], Shortfall(needed=20, largest=16, workers=4)),
        (4, 8, 2, [16, 16], None),
        (4, 9, 2, [16, 16], Shortfall(needed=20, largest=16, workers=8)),
        (20, 1, 1, [16], Shortfall(needed=20, largest=16, workers=0)),
        (20, 1, 2, [16, 16], None),
        (4, 8, 2, [16, 8], Shortfall(needed=16, largest=8, workers=4)),
        (4, 1, 2, [16], Shortfall(needed=2, largest=16, workers=0)),
        (0, 8, 1, [16], None),
        (99, 8, 1, [], None),
        (99, 8, 0, [16], None),
    ],
)
def test_a_replica_needs_its_workers_bytes_on_each_of_its_devices(
    per_worker: int, workers: int, gpus: int, capacity: list[int], expected: Shortfall | None
) -> None:
    devices = {f"gpu-{index}": size for index, size in enumerate(capacity)}
    assert shortfall(per_worker, workers, gpus, devices) == expected


def test_workers_are_spread_over_the_devices_and_devices_over_the_workers() -> None:
    assert bytes_per_gpu(100, workers=4, gpus=2) == 200
    assert bytes_per_gpu(100, workers=1, gpus=2) == 50


@pytest.mark.parametrize(
    ("devices", "workers", "gpus", "placed_on", "refused"),
    [
        ("MIG-a MIG-b", 2, 2, "MIG-a MIG-b", False),
        ("MIG-a MIG-b", 1, 1, "MIG-a MIG-b", False),
        ("MIG-a MIG-b", 1, 2, "", True),
        ("MIG-a MIG-b MIG-c", 2, 3, "", True),
        ("MIG-a GPU-b GPU-c", 1, 2, "GPU-b GPU-c", False),
        ("MIG-a GPU-b", 1, 2, "GPU-b", True),
        ("MIG-a", 1, 2, "", False),
        ("GPU-a", 1, 2, "GPU-a", False),
    ],
)
def test_a_worker_gets_several_cards_but_never_several_mig_instances(
    devices: str, workers: int, gpus: int, placed_on: str, refused: bool
) -> None:
    """Of several CUDA shows a process one: the model would not fit, and nothing would say why."""
    names = devices.split()
    instances = [name for name in names if name.startswith("MIG")]
    found = usable(dict.fromkeys(names, 1), instances, workers, gpus)
    assert list(found) == placed_on.split()
    why = several_instances(names, instances, workers, gpus)
    assert ("CUDA shows a process only one" in why) is refused
