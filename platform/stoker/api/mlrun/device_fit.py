"""Refuses workers that the devices of this home could never hold all at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from stoker.api.submit import Note
from stoker.decide.fit import Shortfall, several_instances, shortfall, usable
from stoker.models.source import PACKAGE_SCHEME, find
from stoker.nouns.errors import InvalidFunction, UnusableModel
from stoker.nouns.function import FunctionConfig
from stoker.nouns.quantity import format_bytes, parse_bytes
from stoker.nouns.settings import ModelSettings, Quantization

_LEAST_SHARE = {
    Quantization.BF16: 2, Quantization.FP16: 2,
    Quantization.INT8: 4, Quantization.INT8_DYNAMIC: 4, Quantization.FP8: 4,
    Quantization.INT4: 8, Quantization.NF4: 8, Quantization.FP4: 8,
    Quantization.GPTQ: 8, Quantization.AWQ: 8,
}  # fmt: skip
"""By how much a quantization can shrink a checkpoint at most: of fp32, all of it."""


def least_bytes(config: FunctionConfig) -> tuple[int, str]:
    """Bytes that one worker needs at least, and how that is known; 0 when it is not.

    Reads the sizes of a local model's files, nothing from a network.
    """
    declared = config.env.get("STOKER_GPU_MEMORY")
    if declared:
        return parse_bytes(declared), f"STOKER_GPU_MEMORY is {declared}"
    name = config.env.get("STOKER_MODEL", "")
    if not name.startswith(PACKAGE_SCHEME) and not Path(name or "-").expanduser().exists():
        return 0, ""
    with suppress(UnusableModel, InvalidFunction, OSError):
        settings = ModelSettings.read(config.env)
        if settings.distill_student or (settings.prune and settings.prune.shortens):
            return 0, ""  # what is left is known once it is prepared
        found = find(name, local=True, pickled=settings.pickled_weights)
        # What a GGUF becomes is hardly smaller than the file, which is quantized already.
        share = 1 if found.gguf else _LEAST_SHARE.get(settings.quantization, 1)
        least = found.weight_bytes // share
        return least, f"the weights of {name} in {settings.quantization}"
    return 0, ""


def check_devices(
    config: FunctionConfig, capacity: Mapping[str, int], instances: Collection[str] = ()
) -> None:
    """Refuses a function whose replica needs more than the devices have when they are empty.

    Args:
        config: the function.
        capacity: bytes of each device; empty on a home without any.
        instances: those that are MIG instances.

    Raises:
        InvalidFunction: with the bytes, and how many workers would fit.
    """
    if not config.gpus or not capacity:
        return
    split = several_instances(capacity, instances, config.workers, config.gpus)
    if split:
        _refuse('spec.resources.limits["nvidia.com/gpu"]', split)
    per_worker, source = least_bytes(config)
    whole = usable(capacity, instances, config.workers, config.gpus) or capacity
    short = shortfall(per_worker, config.workers, config.gpus, whole)
    if short is None:
        return
    if config.gpus > len(capacity):
        field = 'spec.resources.limits["nvidia.com/gpu"]'
        message = f"asks for {config.gpus} GPUs; this home has {len(capacity)}"
    elif not short.workers:
        field = f"spec.env.{_blamed(config)}"
        message = _too_large(config, per_worker, source, short)
    else:
        field = f"spec.triggers.{config.http_trigger_name}.numWorkers"
        message = _too_many(config, per_worker, source, short)
    _refuse(field, message)


def _refuse(field: str, message: str) -> NoReturn:
    raise InvalidFunction(
        f"invalid function: {field}: {message}", fields=[{"field": field, "message": message}]
    )


def _blamed(config: FunctionConfig) -> str:
    return "STOKER_GPU_MEMORY" if config.env.get("STOKER_GPU_MEMORY") else "STOKER_MODEL"


def _too_large(config: FunctionConfig, per_worker: int, source: str, short: Shortfall) -> str:
    advice = {
        "STOKER_GPU_MEMORY": "declare what one worker needs, or take a larger GPU",
        "STOKER_MODEL": "take a smaller model, a lower quantization or a larger GPU",
    }[_blamed(config)]
    return (
        f"one worker needs {format_bytes(per_worker)} ({source}), and {_share(config)} has "
        f"{format_bytes(short.largest)}: no worker of it fits; {advice}"
    )


def _too_many(config: FunctionConfig, per_worker: int, source: str, short: Shortfall) -> str:
    return (
        f"{config.workers} workers of {format_bytes(per_worker)} ({source}) need "
        f"{format_bytes(short.needed)} on {_share(config)}, which has "
        f"{format_bytes(short.largest)}; with_http(workers={short.workers}) would fit "
        "(with_http() alone means 8)"
    )


def _share(config: FunctionConfig) -> str:
    return "each of its GPUs" if config.gpus > 1 else "its GPU"


def sharing_note(config: FunctionConfig, capacity: Mapping[str, int]) -> list[Note]:
    """What becomes of several workers on one GPU of which nobody knows how much they need."""
    if config.workers <= config.gpus or not config.gpus or not capacity:
        return []
    if config.env.get("STOKER_GPU_MEMORY") or config.env.get("STOKER_MODEL"):
        return []
    each = max(capacity.values()) * config.gpus / config.workers
    text = (
        f"{config.workers} workers share {config.gpus} GPU(s), {format_bytes(each)} each: "
        "declare what one needs with STOKER_GPU_MEMORY, and other functions may use the rest"
    )
    return [("info", text)]
