"""``CUDA_VISIBLE_DEVICES`` as CUDA reads it: which cards, and in which order."""

from __future__ import annotations

from collections.abc import Mapping

from stoker.nouns.device import Device


def visible(
    cards: Mapping[int, tuple[str, tuple[Device, ...]]], text: str | None, *, all_there: bool
) -> tuple[Device, ...]:
    """The devices that the variable leaves; all of them when it is not set.

    An entry is an index (as ``nvidia-smi`` counts), a UUID or its beginning, or that of a MIG
    instance. Like CUDA, reading stops at the first entry that names nothing. A card in MIG mode
    stands for all of its instances.

    Args:
        cards: by index: the card's UUID and its devices, which is itself or its instances.
        text: the variable.
        all_there: no card is lost. Otherwise an entry that names nothing may mean a lost card,
            and those after it still count.
    """
    if text is None:
        return tuple(device for _, devices in cards.values() for device in devices)
    found: dict[str, Device] = {}
    for entry in text.split(","):
        named = _named(cards, entry.strip())
        if not named and all_there:
            break
        found |= {device.id: device for device in named}
    return tuple(found.values())


def _named(cards: Mapping[int, tuple[str, tuple[Device, ...]]], entry: str) -> tuple[Device, ...]:
    if entry.isdecimal():
        return cards.get(int(entry), ("", ()))[1]
    if entry.startswith("GPU-"):
        found = [devices for uuid, devices in cards.values() if uuid.startswith(entry)]
    elif entry.startswith("MIG-"):
        instances = [device for _, devices in cards.values() for device in devices]
        found = [(device,) for device in instances if device.id.startswith(entry)]
    else:
        return ()
    # A beginning that several share names none of them.
    return found[0] if len(found) == 1 else ()
