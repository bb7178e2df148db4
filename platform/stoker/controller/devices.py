"""Which devices there are: simulated ones, or what nvidia-smi lists (the only call to it)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping

from stoker.nouns.errors import BadRequest
from stoker.nouns.quantity import parse_device_memory

_SIMULATED = re.compile(r"sim:(\d{1,2})x(.+)")
_QUERY = ("--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")


def find_devices(spec: str) -> dict[str, int]:
    """Bytes of each device, by id.

    >>> find_devices("sim:2x16GiB")
    {'SIM-0': 17179869184, 'SIM-1': 17179869184}

    Raises:
        BadRequest: the spec is none of ``auto``, ``cpu``, ``sim:<count>x<size>``.
    """
    if spec == "cpu":
        return {}
    if spec == "auto":
        return _nvidia(os.environ.get("CUDA_VISIBLE_DEVICES"))
    match = _SIMULATED.fullmatch(spec)
    if match:
        try:
            size = parse_device_memory(match[2])
        except ValueError as exc:
            raise BadRequest(f"devices: {exc}") from exc
        return {f"SIM-{index}": size for index in range(int(match[1]))}
    raise BadRequest(f'devices must be "auto", "cpu" or like "sim:2x16GiB", was {spec!r}')


def _nvidia(visible: str | None) -> dict[str, int]:
    binary = shutil.which("nvidia-smi")
    if binary is None:
        return {}
    try:
        answer = subprocess.run(
            [binary, *_QUERY], capture_output=True, text=True, timeout=20, check=True
        )
    except (subprocess.SubprocessError, OSError):
        # A driver that does not answer means that no GPU can be used, which is what {} says.
        return {}
    return parse_nvidia(answer.stdout, visible)


def parse_nvidia(text: str, visible: str | None) -> dict[str, int]:
    """Bytes by uuid, of the devices that ``CUDA_VISIBLE_DEVICES`` (None: all) leaves."""
    rows: Mapping[str, tuple[str, int]] = {
        cells[0]: (cells[1], int(cells[2]) * 1024 * 1024)
        for line in text.splitlines()
        if len(cells := [cell.strip() for cell in line.split(",")]) == 3 and cells[2].isdigit()
    }
    chosen = None if visible is None else {name.strip() for name in visible.split(",")}
    return {
        uuid: size
        for index, (uuid, size) in rows.items()
        if chosen is None or index in chosen or uuid in chosen
    }
