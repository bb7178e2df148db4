"""What the driver says of a real card, for the tests marked ``gpu``."""

from __future__ import annotations

from stoker.controller.nvml import Nvml
from stoker.nouns.device import Device


def used(device: Device) -> int:
    """Bytes in use on the card, by the driver, for this moment."""
    driver = Nvml(None)
    driver.list()
    return driver.use(device.id).used_bytes
