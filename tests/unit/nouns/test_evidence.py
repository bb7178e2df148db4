"""Tallies of several reporters, added up without losing or doubling any."""

from __future__ import annotations

from stoker.nouns import evidence
from stoker.nouns.evidence import Evidence, Side, Tally, newest


def tally(id: str, requests: int, **facts: object) -> Tally:  # noqa: A002 - the field's name
    side = Side(requests=requests, latency={10: requests})
    return Tally.model_validate({"id": id, "revision": 2, "canary": side, **facts})


def total(tallies: dict[str, Tally]) -> int:
    return Evidence.of(tallies.values()).canary.requests


def test_a_report_in_place_of_an_earlier_one_counts_once_and_a_late_one_not_at_all() -> None:
    seen = newest({}, [tally("a", 5)], 2)
    seen = newest(seen, [tally("a", 9), tally("b", 1)], 2)
    assert total(seen) == 10
    assert total(newest(seen, [tally("a", 5)], 2)) == 10


def test_another_canarys_tallies_are_left_out() -> None:
    assert newest({}, [tally("a", 5, revision=3)], 2) == {}


def test_the_age_of_a_request_counts_while_somebody_tells_it() -> None:
    seen = newest({}, [tally("a", 5, oldest_s=7.0)], 2)
    assert Evidence.of(seen.values()).oldest_s == 7
    assert Evidence.of(newest(seen, [], 2).values()).oldest_s == 0
    assert total(newest(seen, [], 2)) == 5


def test_latencies_are_added_bucket_by_bucket() -> None:
    seen = newest({}, [tally("a", 2), tally("b", 3)], 2)
    assert Evidence.of(seen.values()).canary == Side(requests=5, latency={10: 5})


def test_reporters_beyond_the_bound_are_left_out_and_the_known_ones_go_on() -> None:
    many = [tally(f"t{number}", 1) for number in range(evidence.TALLIES + 10)]
    seen = newest({}, many, 2)
    assert total(seen) == evidence.TALLIES
    assert total(newest(seen, [tally("t0", 4)], 2)) == evidence.TALLIES + 3


def test_a_tally_is_the_same_after_its_way_through_the_store() -> None:
    made = tally("a", 3, oldest_s=0.5, mirrored=4, differing=1)
    assert Tally.model_validate_json(made.model_dump_json()) == made
