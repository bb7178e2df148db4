"""A peer: holds its part of the model and follows rank 0, until rank 0 is gone.

`serve` runs in a process that a worker forked before it had a thread, or in one of its own:
``python -m stoker.models.parallel.rank --socket FD``, for workers that are not this platform's.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from stoker.models.manifest import Manifest
from stoker.models.parallel.crew import SETTLE_S
from stoker.models.parallel.message import Message, decoded
from stoker.nouns.errors import StokerError
from stoker.nouns.settings import ModelSettings

EXIT_OUT_OF_STEP = 72
"""The exit code of a peer that failed where rank 0 did not."""
_PR_SET_PDEATHSIG = 1
_NEEDED = ("torch.distributed.device_mesh", "transformers.distributed.tensor_parallel")


def die_with(parent: int) -> None:
    """The kernel ends this process when its parent's thread that forked it ends.

    For peers that a worker's main thread forked; the socket's end would tell them too, but not
    one that waits in a collective.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was over before the kernel was told
        os._exit(0)


def serve(sock: socket.socket) -> int:
    """Does what rank 0 says until its end of the socket is closed; the exit code."""
    # Who stops a worker tells the worker; its peers would be missing while it still answers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sock.settimeout(None)
    peer = _Peer(sock)
    while (message := Message.receive(sock)) is not None:
        if not peer.take(message):
            return EXIT_OUT_OF_STEP
    return 0


class _Peer:
    """Single-threaded; everything here is written by the one loop of `serve`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._mesh: Any = None
        self._size = 1
        self._modules: dict[int, Any] = {}
        self._caches: dict[tuple[int, int], Any] = {}
        """By the module that made it, and its number there."""
        self._copies: list[Any] = []

    def take(self, message: Message) -> bool:
        """One message; False when this rank is of no use any more."""
        document = message.document
        operation = document["op"]
        if operation == "forward":
            return self._forward(message)
        if operation == "reorder":
            self._reorder(document)
            return True
        if operation == "settle":
            return self._settle()
        act = {
            "import": self._import, "join": self._join, "load": self._load,
            "sleep": self._sleep, "wake": self._wake,
        }  # fmt: skip
        try:
            act[operation](document)
            answer: dict[str, Any] = {"done": operation}
        except StokerError as exc:
            answer = {"error": exc.message}
        except Exception as exc:
            traceback.print_exc()
            answer = {"error": f"{type(exc).__name__}: {exc}"}
        Message(answer).send(self._sock)
        return True

    def _import(self, _document: dict[str, Any]) -> None:
        for name in _NEEDED:
            importlib.import_module(name)

    def _join(self, document: dict[str, Any]) -> None:
        from stoker.models.parallel.group import join

        self._size = document["size"]
        self._mesh = join(document["store"], document["rank"], self._size, document["device"])

    def _load(self, document: dict[str, Any]) -> None:
        import torch

        from stoker.models.parallel.part import placed_part

        torch.set_num_threads(document["threads"])
        folder = Path(document["folder"])
        settings = ModelSettings.model_validate(document["settings"])
        module = placed_part(folder, Manifest.of(folder), settings, self._mesh)
        self._modules[document["module"]] = module

    def _forward(self, message: Message) -> bool:
        import torch

        document, device = message.document, self._mesh.device_type
        for number in document["drop"]:
            self._caches.pop((document["module"], number), None)
        module = self._modules[document["module"]]
        cache = self._cache_of(document["module"])
        args = decoded(document["args"], message.tensors, device, cache)
        kwargs = decoded(document["kwargs"], message.tensors, device, cache)
        try:
            with torch.inference_mode():
                module(*args, **kwargs)
        except Exception:
            failure = traceback.format_exc()
        else:
            return True
        return self._failed(failure)

    def _reorder(self, document: dict[str, Any]) -> None:
        import torch

        cache = self._cache_of(document["module"])(document["cache"])
        with torch.inference_mode():
            cache.reorder_cache(torch.tensor(document["rows"], device=self._mesh.device_type))

    def _failed(self, failure: str) -> bool:
        """Goes on only if rank 0 has failed as well, and says so."""
        self._sock.settimeout(SETTLE_S)
        try:
            message = Message.receive(self._sock)
        except TimeoutError:
            message = None
        self._sock.settimeout(None)
        if message is not None and message.document["op"] == "settle":
            return self._settle()
        sys.stderr.write(f"failed where rank 0 did not: {failure}\n")
        return False

    def _settle(self) -> bool:
        from stoker.models.parallel.group import in_step

        Message({"done": "settle"}).send(self._sock)
        try:
            return in_step(self._size, self._mesh.device_type)
        except RuntimeError:
            traceback.print_exc()
            return False

    def _cache_of(self, module: int) -> Any:
        def cache(number: int) -> Any:
            from transformers import DynamicCache

            if (module, number) not in self._caches:
                config = self._modules[module].config.get_text_config(decoder=True)
                self._caches[module, number] = DynamicCache(config=config)
            return self._caches[module, number]

        return cache

    def _sleep(self, _document: dict[str, Any]) -> None:
        from stoker.models.host_copy import HostCopy

        self._caches.clear()
        if not self._copies:
            self._copies = [HostCopy(module) for module in self._modules.values()]
        for copy in self._copies:
            copy.sleep()

    def _wake(self, _document: dict[str, Any]) -> None:
        for copy in self._copies:
            copy.wake()


def _end_with(pid: int) -> None:
    """Ends this process when another does, from a thread: a collective may hold the main one."""
    descriptor = os.pidfd_open(pid)

    def wait() -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    """Be a peer of the process that started this one."""
    parser = argparse.ArgumentParser(prog="python -m stoker.models.parallel.rank")
    parser.add_argument("--socket", type=int, required=True, help="a connected unix socket")
    parser.add_argument("--parent", type=int, required=True, help="the pid of rank 0")
    chosen = parser.parse_args(arguments)
    try:
        _end_with(chosen.parent)
    except ProcessLookupError:
        return 0
    return serve(socket.socket(fileno=chosen.socket))


if __name__ == "__main__":
    sys.exit(main())
