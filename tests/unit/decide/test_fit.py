"""Whether a replica fits on empty devices."""

from __future__ import annotations

import pytest

from stoker.decide.fit import Shortfall, bytes_per_gpu, shortfall


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
