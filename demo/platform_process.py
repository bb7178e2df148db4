"""Starting the platform, talking to its command line, stopping it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STOKER = Path(sys.executable).with_name("stoker")
DEFAULT_PORTS = (8070, 8080)


class CommandFailed(Exception):
    """A command of the platform did not succeed."""


class Platform:
    """One platform in a home of its own, which goes when the demo ends."""

    def __init__(self):
        # Not below the checkout: the path of a unix socket may have 107 bytes at most.
        self.home = Path(tempfile.mkdtemp(prefix="stoker-demo-"))
        self.gateway = self.control = self.devices = ""

    def start(self):
        """`stoker up`, in the background."""
        control, gateway = DEFAULT_PORTS if all(map(is_free, DEFAULT_PORTS)) else (0, 0)
        self.run("up", "--detach", "--port", str(control), "--gateway-port", str(gateway),
                 "--devices", devices())  # fmt: skip
        endpoints = json.loads((self.home / "run" / "endpoints.json").read_text())
        self.gateway, self.control = endpoints["gateway_url"], endpoints["control_url"]
        self.devices = endpoints["devices"]

    def stop(self):
        """`stoker down`, and the home is removed."""
        try:
            self.run("down")
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def show(self, *arguments):
        """Runs a command whose output people are to see."""
        result = subprocess.run(self._command(arguments), cwd=ROOT, check=False)
        if result.returncode:
            raise CommandFailed(f"stoker {' '.join(arguments)} ended with {result.returncode}")

    def run(self, *arguments):
        """Runs a command; its output."""
        command = self._command(arguments)
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if result.returncode:
            said = (result.stderr or result.stdout).strip()
            raise CommandFailed(
                f"stoker {' '.join(arguments)} ended with {result.returncode}: {said}"
            )
        return result.stdout

    def workers(self):
        """Every worker process: dicts with ``function``, ``pid``, ``pssBytes``, ``rssBytes``."""
        replicas = json.loads(self.run("ps", "--json"))
        return [w | {"function": r["function"]} for r in replicas for w in r["workers"] if w["pid"]]

    def _command(self, arguments):
        verb, *rest = arguments
        return [str(STOKER), verb, "--home", str(self.home), *rest]


def is_free(port):
    """Whether nothing listens on that port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def devices():
    """Real cards where there are any, else one simulated card of 16 GiB."""
    return "auto" if os.path.exists("/dev/nvidia0") else "sim:1x16GiB"
