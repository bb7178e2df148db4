"""Splitting a model over processes: which numbers of them fit a worker's devices and its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

VARIABLE = "STOKER_TENSOR_PARALLEL"


def ranks_of(env: Mapping[str, str]) -> int:
    """The processes that each worker's model is split over; 1 where nothing, or nonsense, is said.

    Nonsense is refused where the settings are read.

    >>> ranks_of({VARIABLE: "2"}), ranks_of({}), ranks_of({VARIABLE: "two"})
    (2, 1, 1)
    """
    text = env.get(VARIABLE, "").strip()
    return max(1, int(text)) if text.isdecimal() else 1


def misdealt(ranks: int, workers: int, gpus: int) -> str:
    """Why a replica's GPUs do not give each rank of each worker one; empty when they do.

    Args:
        ranks: processes of a worker.
        workers: of the replica.
        gpus: of the replica; 0: its ranks compute on the CPU.

    >>> misdealt(2, workers=1, gpus=2), misdealt(2, workers=3, gpus=6), misdealt(4, 2, gpus=0)
    ('', '', '')
    >>> misdealt(2, workers=1, gpus=4)
    '2 processes a worker and 1 worker(s) need 2 GPU(s), one each; the function has 4'
    """
    if ranks == 1 or not gpus or gpus == ranks * workers:
        return ""
    return (
        f"{ranks} processes a worker and {workers} worker(s) need {ranks * workers} GPU(s), one "
        f"each; the function has {gpus}"
    )


def deal_ranks(devices: Sequence[str], ranks: int) -> tuple[str, ...] | None:
    """Each rank's device; empty names where there are none; None when they are not one each.

    >>> deal_ranks(["a", "b"], 2), deal_ranks([], 2), deal_ranks(["a"], 2)
    (('a', 'b'), ('', ''), None)
    """
    if not devices:
        return ("",) * ranks
    return tuple(devices) if len(devices) == ranks else None


def indivisible(ranks: int, counts: Mapping[str, int]) -> str:
    """Which of a model's counts cannot be split evenly, and by what they can; empty: all can.

    >>> indivisible(3, {"num_attention_heads": 9, "num_key_value_heads": 3})
    ''
    >>> indivisible(2, {"num_attention_heads": 9, "num_key_value_heads": 3})
    'num_attention_heads is 9, num_key_value_heads is 3; numbers that divide them: 3'
    """
    wrong = [f"{name} is {count}" for name, count in counts.items() if count % ranks]
    if not wrong:
        return ""
    most = min(counts.values())
    fitting = [n for n in range(2, most + 1) if all(count % n == 0 for count in counts.values())]
    would = ", ".join(map(str, fitting)) or "none but 1"
    return f"{', '.join(wrong)}; numbers that divide them: {would}"
