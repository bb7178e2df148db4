"""The warm path: gateway and workers with an echo handler, beside the bare echo server."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import psutil

from bench.bare_server import bare_echo
from bench.context import Context
from bench.cpu_time import Spent
from bench.job import BODY, Endpoint
from bench.latency import Line
from bench.result import CannotRun, Figure, Result, at_least, at_most
from bench.samples import interleaved, percentile, ratio
from bench.stoker_home import FUNCTIONS, Platform, platform

CONNECTIONS = 32
BLOCK = 250
"""Requests of one side before the other side's turn, in the latency loop."""
HANDLERS = {"async": "bench-echo-async", "sync": "bench-echo"}
"""Two workers each: with ``async def`` each holds up to 64 requests, without it one."""
SHARE = at_least(0.5)


def run(context: Context) -> Result:
    """Throughput at 32 connections, then latency at one; all sides live throughout."""
    with (
        platform(context) as stoker,
        bare_echo(context) as bare,
        bare_echo(context, minimal=True) as minimal,
    ):
        sides = {kind: _deployed(stoker, name) for kind, name in HANDLERS.items()}
        throughput = _throughput(context, {"bare": bare, "minimal": minimal, **sides})
        latency = _latency(context, sides["sync"], bare)
        costs = {kind: _cost(context, stoker, kind, sides[kind]) for kind in HANDLERS}
    figures = [*_rates(throughput), *_added(latency), *_costs(costs)]
    return Result("echo", figures, details={**throughput, **latency, "cpu_us": costs})


def _deployed(stoker: Platform, name: str) -> Endpoint:
    stoker.deploy(FUNCTIONS / name.removeprefix("bench-"))
    endpoint = stoker.endpoint(name)
    if not endpoint.echoes():
        raise CannotRun(f"{endpoint.url} does not echo: {endpoint.post()!r}")
    return endpoint


def _throughput(context: Context, sides: Mapping[str, Endpoint]) -> dict[str, list[float]]:
    body = context.body_file(BODY, "echo")

    def measure(side: str, seconds: float) -> float:
        load = context.generator.run(sides[side], body, connections=CONNECTIONS, seconds=seconds)
        context.say(f"{side}: {load.per_second:,.0f}/s, p99 {load.p99_us / 1000:.1f} ms")
        return load.per_second

    for side in sides:
        measure(side, 1)
    subjects = {f"{side}_per_s": lambda side=side: measure(side, context.seconds) for side in sides}
    return interleaved(subjects, context.rounds(7, 3))


def _rates(rounds: dict[str, list[float]]) -> list[Figure]:
    def figure(what: str, side: str, *, judged: bool) -> Figure:
        return Figure(
            what,
            statistics.median(rounds[f"{side}_per_s"]),
            "req/s",
            reference=statistics.median(rounds["bare_per_s"]),
            ratio=ratio(rounds[f"{side}_per_s"], rounds["bare_per_s"]),
            target=SHARE if judged else None,
        )

    place = f"{CONNECTIONS} connections, beside the bare server"
    return [
        figure(f"echo, async handler, {place}", "async", judged=True),
        figure(f"echo, sync handler, {place}", "sync", judged=False),
        figure(f"bare, ignoring url and headers, {place}", "minimal", judged=False),
    ]


def _latency(context: Context, ours: Endpoint, bare: Endpoint) -> dict[str, list[float]]:
    """Microseconds of every request, in alternating blocks."""
    lines = {"bare_us": Line(bare), "stoker_us": Line(ours)}
    try:
        for line in lines.values():
            for _ in range(BLOCK):
                line.once()
        times: dict[str, list[float]] = {name: [] for name in lines}
        for _ in range(context.rounds(20, 4)):
            for name, line in lines.items():
                times[name] += [1e6 * line.once() for _ in range(BLOCK)]
    finally:
        for line in lines.values():
            line.close()
    return {f"{name}_p{p}": [percentile(t, p / 100)] for name, t in times.items() for p in (50, 99)}


def _added(times: dict[str, list[float]]) -> list[Figure]:
    def figure(share: int) -> Figure:
        direct, through = times[f"bare_us_p{share}"][0], times[f"stoker_us_p{share}"][0]
        return Figure(
            f"echo, sync handler, 1 connection: added p{share} (bare {direct:.0f} µs)",
            through - direct,
            "µs",
            target=at_most(100) if share == 50 else None,
        )

    return [figure(50), figure(99)]


def _cost(context: Context, stoker: Platform, kind: str, ours: Endpoint) -> dict[str, float]:
    """CPU microseconds per request at 32 connections: it holds on a busy machine too."""
    groups: dict[str, list[psutil.Process]] = {
        "gateway": [stoker.process("gateway-0")],
        "workers": stoker.workers(HANDLERS[kind]),
        "controller": [stoker.process("controller")],
        "redis": [stoker.process("redis")],
    }
    spent = Spent(groups)
    body = context.body_file(BODY, "echo")
    load = context.generator.run(ours, body, connections=CONNECTIONS, seconds=context.seconds)
    return spent.per_request(load.requests)


def _costs(costs: Mapping[str, Mapping[str, float]]) -> list[Figure]:
    return [
        Figure(
            f"echo, {kind} handler, {CONNECTIONS} connections: CPU in the {where}",
            cost[where],
            "µs/req",
        )
        for kind, cost in costs.items()
        for where in ("gateway", "workers")
    ]
