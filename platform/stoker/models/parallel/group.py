"""The process group of a worker's ranks: gloo between CPUs, NCCL between cards; no torchrun.

Both open TCP connections, which are kept on the loopback interface. The ranks find each other by a
file in a folder of their own, so nothing has a port or a name that two workers could share.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from stoker.models.parallel.crew import COLLECTIVE_S
from stoker.nouns.errors import UnusableModel

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def join(store: str, rank: int, size: int, device: str) -> DeviceMesh:
    """Enters the group; returns when all ranks have.

    Args:
        store: a file that does not exist yet, the same for all ranks.
        rank: of this process.
        size: ranks in all.
        device: what torch calls this rank's: ``cpu``, or ``cuda``, of which it sees one card.

    Raises:
        UnusableModel: this process is in a group already, or the others did not come.
    """
    import torch
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh

    if distributed.is_initialized():
        raise UnusableModel(
            "STOKER_TENSOR_PARALLEL needs torch.distributed for itself, and this process has "
            "called init_process_group already"
        )
    for name in _INTERFACES:
        os.environ[name] = "lo"
    card = device == "cuda"
    try:
        distributed.init_process_group(
            "nccl" if card else "gloo",
            store=distributed.FileStore(store, size),  # type: ignore[attr-defined]
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=COLLECTIVE_S),
            device_id=torch.device("cuda", 0) if card else None,
        )
        return init_device_mesh(device, (size,), mesh_dim_names=("tp",))
    except (RuntimeError, ValueError) as exc:
        raise UnusableModel(f"the processes of a split model did not meet: {exc}") from exc


def in_step(size: int, device: str) -> bool:
    """Whether all ranks can still add a number each: a collective, which all must call.

    Raises:
        RuntimeError: they cannot even meet.
    """
    import torch
    from torch import distributed

    total = torch.ones(1, device=device)
    distributed.all_reduce(total)
    return int(total.item()) == size
