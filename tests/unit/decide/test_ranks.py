"""Over how many processes a model may be split, by its heads and by the worker's devices."""

from __future__ import annotations

import pytest

from stoker.decide.ranks import VARIABLE, deal_ranks, indivisible, misdealt, ranks_of


@pytest.mark.parametrize(
    ("text", "ranks"), [("3", 3), (" 2 ", 2), ("", 1), ("0", 1), ("-2", 1), ("many", 1)]
)
def test_what_says_no_number_of_processes_is_one(text: str, ranks: int) -> None:
    assert ranks_of({VARIABLE: text}) == ranks


@pytest.mark.parametrize(
    ("ranks", "workers", "gpus", "fits"),
    [
        (1, 3, 1, True),
        (2, 1, 2, True),
        (2, 2, 4, True),
        (3, 2, 0, True),
        (2, 1, 1, False),
        (2, 1, 4, False),
        (2, 2, 2, False),
    ],
)
def test_every_process_of_every_worker_has_one_card_of_its_own(
    ranks: int, workers: int, gpus: int, fits: bool
) -> None:
    assert (not misdealt(ranks, workers, gpus)) is fits


def test_a_refusal_says_how_many_cards_would_do() -> None:
    assert "3 worker(s) need 6 GPU(s)" in misdealt(2, workers=3, gpus=3)


def test_ranks_are_dealt_a_workers_devices_in_their_order() -> None:
    assert deal_ranks(["SIM-3", "SIM-0"], 2) == ("SIM-3", "SIM-0")


@pytest.mark.parametrize("devices", [["a"], ["a", "b", "c"], ["a", "b", "c", "d"]])
def test_too_few_devices_and_idle_ones_are_no_deal(devices: list[str]) -> None:
    assert deal_ranks(devices, 2) is None


@pytest.mark.parametrize(
    ("ranks", "counts", "said"),
    [
        (2, {"heads": 4, "shared": 2}, ""),
        (4, {"heads": 4, "shared": 2}, "shared is 2; numbers that divide them: 2"),
        (2, {"heads": 9, "shared": 3}, "heads is 9, shared is 3; numbers that divide them: 3"),
        (2, {"heads": 7, "shared": 1}, "none but 1"),
        (8, {}, ""),
    ],
)
def test_heads_that_do_not_come_out_even_are_named_with_what_would(
    ranks: int, counts: dict[str, int], said: str
) -> None:
    found = indivisible(ranks, counts)
    assert said in found
    assert bool(found) == bool(said)
