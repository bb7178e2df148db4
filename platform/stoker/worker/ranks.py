"""The peers of a worker whose model is split: forked from it before it does anything else.

They are its children, in its session: they end when it does, by the kernel's word, and whoever
clears up after it ends what is left of its process group. What they hold of a card counts as the
worker's.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from typing import NoReturn

from stoker.decide.ranks import deal_ranks, ranks_of
from stoker.models.parallel.crew import Crew, Peer, muster
from stoker.nouns.launch import WorkerLaunch
from stoker.worker.log import WorkerLog, redirect_output
from stoker.worker.preimport import THREAD_COUNTS
from stoker.worker.settling import settle_in

_DEVICES = "CUDA_VISIBLE_DEVICES"
_EXIT_BROKEN = 70


def mustered(launch: WorkerLaunch, listener: socket.socket) -> WorkerLaunch:
    """Forks the peers that ``STOKER_TENSOR_PARALLEL`` asks for; what is left to rank 0.

    Where there is not a device for each, none is forked: loading the model refuses it, in words.
    """
    ranks = ranks_of(launch.env)
    visible = [name for name in launch.env.get(_DEVICES, "").split(",") if name]
    devices = deal_ranks(visible, ranks)
    if ranks == 1 or devices is None:
        return launch
    peers: list[Peer] = []
    for rank in range(1, ranks):
        peers.append(_forked(rank, _own(launch, devices[rank], ranks), listener, peers))
    muster(Crew(peers))
    return _own(launch, devices[0], ranks)


def _own(launch: WorkerLaunch, device: str, ranks: int) -> WorkerLaunch:
    """One rank's launch: its own card, and its share of the worker's threads."""
    threads = max(1, launch.threads // ranks)
    # Those that the function declared are what it wants of each process.
    shared = {
        name: str(threads) for name in THREAD_COUNTS if launch.env.get(name) == str(launch.threads)
    }
    env = {**launch.env, **shared, _DEVICES: device}
    return launch.model_copy(update={"env": env, "threads": threads})


def _forked(rank: int, launch: WorkerLaunch, listener: socket.socket, elder: list[Peer]) -> Peer:
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        # Else the worker's end would not be seen before the last of its peers has ended.
        for sock in (ours, listener, *(peer.sock for peer in elder)):
            sock.close()
        _be_peer(launch, rank, parent, theirs)
    theirs.close()
    return Peer(rank, pid, ours)


def _be_peer(launch: WorkerLaunch, rank: int, parent: int, sock: socket.socket) -> NoReturn:
    """In the forked child: nothing may return from here."""
    code = _EXIT_BROKEN
    try:
        from stoker.models.parallel.rank import die_with, serve

        die_with(parent)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        log = WorkerLog(
            launch.log, function=launch.function, replica=launch.replica, worker=launch.index
        )
        redirect_output(log)
        settle_in(launch)
        log.write("info", f"rank {rank} runs", {"pid": os.getpid()})
        code = serve(sock)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)
