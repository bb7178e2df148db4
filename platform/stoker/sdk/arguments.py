"""Arguments of `stoker.gpu`, as Nuclio has them.

Each reader gives the value to write, or raises ValueError saying what it must be and what it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stoker.nouns.parts import whole_number
from stoker.nouns.quantity import parse_device_memory, parse_duration


def _whole(least: int) -> Callable[[Any], int]:
    return lambda value: whole_number(value, least)


def _duration(value: Any) -> str:
    """As Go reads it: a bare number would be refused by Nuclio."""
    seconds = parse_duration(value)
    if seconds <= 0:
        raise ValueError(f"must be a duration of more than zero, was {value!r}")
    if isinstance(value, str):
        return value.strip()
    return f"{value:g}s" if seconds >= 1 else f"{seconds * 1000:g}ms"


def _seconds(value: Any) -> int:
    seconds = parse_duration(value)
    if seconds < 1 or seconds != int(seconds):
        raise ValueError(f"must be whole seconds, at least 1, was {value!r}")
    return int(seconds)


def _millis(value: Any) -> int:
    return round(parse_duration(_duration(value)) * 1000)


def _batch(value: Any) -> dict[str, Any]:
    if hasattr(value, "get_nuclio_batch_config"):  # mlrun's BatchingSpec
        return value.get_nuclio_batch_config() or {"mode": "disable"}
    if value is False:
        return {"mode": "disable"}
    if not isinstance(value, Mapping):
        return {"mode": "enable", "batchSize": _size(value)}
    if unknown := value.keys() - {"size", "timeout"}:
        raise ValueError(f"may have size and timeout, was given {', '.join(sorted(unknown))}")
    if "size" not in value:
        raise ValueError('must have a size, such as {"size": 16, "timeout": "5ms"}')
    read = {"mode": "enable", "batchSize": _size(value["size"])}
    return read | ({"timeout": _duration(value["timeout"])} if "timeout" in value else {})


def _size(value: Any) -> int:
    try:
        return whole_number(value, 1)
    except ValueError as error:
        raise ValueError(f'{error}; or {{"size": 16, "timeout": "5ms"}}, or False') from error


def _window(value: Any) -> str | bool:
    if isinstance(value, bool):
        return value
    try:
        return _duration(value)
    except ValueError as error:
        raise ValueError(f"{error}; or True or False") from error


def _text(value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not (text := os.fspath(value)):
        raise ValueError(f"must be text, was {value!r}")
    return str(text)


def _list(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, Sequence) or not value:
        raise ValueError(f"must be names separated by commas, or a list of them, was {value!r}")
    return ",".join(_text(one) for one in value)


def _map(value: Any) -> str:
    return json.dumps(dict(value)) if isinstance(value, Mapping) else _text(value)


def _pairs(value: Any) -> str:
    if not isinstance(value, Mapping):
        return _text(value)
    return ",".join(f"{name}={_text(folder)}" for name, folder in value.items())


def _switch(value: Any) -> str:
    if not isinstance(value, bool):
        raise ValueError(f"must be True or False, was {value!r}")
    return "1" if value else "0"


def _device_memory(value: Any) -> str:
    parse_device_memory(value)
    return str(value)


READERS: dict[str, Callable[[Any], Any]] = {
    "workers": _whole(1),
    "gpus": _whole(0),
    "batch": _batch,
    "batch_timeout": _duration,
    "scale_to_zero": _window,
    "min_replicas": _whole(0),
    "max_replicas": _whole(1),
    "timeout": _duration,
    "worker_timeout": _millis,
    "readiness_timeout": _seconds,
    "model": _text,
    "task": _text,
    "quantization": _text,
    "quantization_skip": _list,
    "calibration": _text,
    "prune": _list,
    "distill": _text,
    "distill_data": _text,
    "distill_student": _text,
    "dtype": _text,
    "attention": _text,
    "device_map": _map,
    "offload": _text,
    "tensor_parallel": lambda value: str(whole_number(value, 1)),
    "compile": _switch,
    "adapter": _pairs,
    "trust_remote_code": _switch,
    "pickled_weights": _text,
    "gpu_memory": _device_memory,
    "sleep_after": _duration,
    "queue_limit": lambda value: str(whole_number(value, 1)),
}
