"""Loading a model over all ranks of this worker, from rank 0."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.decide.ranks import deal_ranks
from stoker.models import held
from stoker.models.device import target
from stoker.models.manifest import Manifest
from stoker.models.parallel.crew import COLLECTIVE_S, LOADING_S, Crew, muster, mustered
from stoker.models.parallel.message import Message
from stoker.models.parallel.mirror import mirrored
from stoker.models.parallel.part import placed_part
from stoker.models.parallel.sharded import check_folder
from stoker.models.parallel.spawn import spawned
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import ModelSettings
from stoker.sdk.sleep import SLEEPERS

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel

_MIG = "MIG-"
_numbers = itertools.count(1)
_meshes: dict[int, DeviceMesh] = {}
"""By the crew's identity: the ranks meet once, however many models they load."""


def load_split(
    folder: Path, manifest: Manifest, settings: ModelSettings, *, threads: int
) -> PreTrainedModel:
    """Rank 0's part of a prepared model; whoever calls it has all ranks compute.

    Args:
        folder: the checkpoint.
        manifest: its own.
        settings: what the function declares; ``tensor_parallel`` is the number of ranks.
        threads: CPU threads of each rank.

    Raises:
        UnusableModel: the worker has not a device for each rank, or the model cannot be split so.
    """
    check_folder(folder, settings.tensor_parallel, trust=manifest.trust_remote_code)
    crew = mustered() or _called_up(settings.tensor_parallel)
    if crew.size != settings.tensor_parallel:
        raise UnusableModel(
            f"STOKER_TENSOR_PARALLEL is {settings.tensor_parallel}, and this worker was started as "
            f"{crew.size} processes: set the variable where the function is declared, not in code"
        )
    mesh = _meshes.get(id(crew)) or _joined(crew, target().kind)
    number = next(_numbers)
    told = {
        "op": "load", "module": number, "folder": str(folder), "threads": threads,
        "settings": settings.model_dump(mode="json"),
    }  # fmt: skip
    crew.tell(Message(told))
    try:
        module = placed_part(folder, manifest, settings, mesh)
    except UnusableModel:
        crew.hear(LOADING_S)  # theirs, too, which is no news
        raise
    crew.heard(LOADING_S)
    held.split_over(crew.size)
    _leaves_its_cards(module, crew)
    return mirrored(module, number, crew, mesh.device_type)


def devices_of_ranks(visible: str, ranks: int) -> tuple[str, ...]:
    """Each rank's device, of those that a worker may use; empty names on the CPU.

    >>> devices_of_ranks("SIM-0,SIM-1", 2), devices_of_ranks("", 2)
    (('SIM-0', 'SIM-1'), ('', ''))

    Raises:
        UnusableModel: there is not one for each.
    """
    own = [name for name in visible.split(",") if name and name != "-1"]
    dealt = deal_ranks(own, ranks)
    if dealt is None:
        raise UnusableModel(
            f"STOKER_TENSOR_PARALLEL={ranks} needs {ranks} devices a worker, one each; this one "
            f"has {len(own)}: {', '.join(own)}. Set nvidia.com/gpu to numWorkers times {ranks}"
        )
    if any(name.startswith(_MIG) for name in own):
        raise UnusableModel(
            f"STOKER_TENSOR_PARALLEL={ranks}: NCCL does not connect parts of a card (MIG); the "
            "nearest that works is 1"
        )
    return dealt


def _called_up(ranks: int) -> Crew:
    crew = spawned(devices_of_ranks(os.environ.get("CUDA_VISIBLE_DEVICES", ""), ranks))
    muster(crew)
    return crew


def _joined(crew: Crew, device: str) -> DeviceMesh:
    """Brings all ranks into one process group."""
    from stoker.models.parallel.group import join

    # New processes import for seconds, and nobody should wait for them within the rendezvous.
    crew.ask({"op": "import"}, LOADING_S)
    folder = Path(tempfile.mkdtemp(prefix="stoker-ranks-"))
    try:
        store = str(folder / "store")
        for peer in crew.peers:
            told = {
                "op": "join", "store": store, "rank": peer.rank, "size": crew.size,
                "device": device,
            }  # fmt: skip
            Message(told).send(peer.sock)
        try:
            mesh = join(store, 0, crew.size, device)
        finally:
            crew.heard(COLLECTIVE_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _meshes[id(crew)] = mesh
    return mesh


def _leaves_its_cards(module: Any, crew: Crew) -> None:
    """Registers all ranks' parts, if they are on cards, to leave them together."""
    if not next(module.parameters()).is_cuda:
        return
    from stoker.models.host_copy import HostCopy

    copy = HostCopy(module)

    def sleep() -> None:
        crew.ask({"op": "sleep"}, LOADING_S)
        copy.sleep()

    def wake() -> None:
        crew.ask({"op": "wake"}, LOADING_S)
        copy.wake()

    SLEEPERS.add(sleep, wake)
