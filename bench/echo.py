"""The warm path: gateway and workers with an echo handler, beside the bare echo server."""

from __future__ import annotations

import statistics

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


def run(context: Context) -> Result:
    """Throughput at 32 connections, then latency at one; both sides live throughout."""
    with platform(context) as stoker, bare_echo(context) as bare:
        stoker.deploy(FUNCTIONS / "echo")
        ours = stoker.endpoint("bench-echo")
        if not ours.echoes():
            raise CannotRun(f"{ours.url} does not echo: {ours.post()!r}")
        throughput = _throughput(context, ours, bare)
        latency = _latency(context, ours, bare)
        cost = _cost(context, stoker, ours)
    figures = [_rate(throughput), *_added(latency), *_costs(cost)]
    return Result("echo", figures, details={**throughput, **latency, "cpu_us": cost})


def _throughput(context: Context, ours: Endpoint, bare: Endpoint) -> dict[str, list[float]]:
    body = context.body_file(BODY, "echo")

    def measure(endpoint: Endpoint, seconds: float) -> float:
        load = context.generator.run(endpoint, body, connections=CONNECTIONS, seconds=seconds)
        context.say(f"{endpoint.url}: {load.per_second:,.0f}/s, p99 {load.p99_us / 1000:.1f} ms")
        return load.per_second

    for endpoint in (bare, ours):
        measure(endpoint, 1)
    subjects = {
        "bare_per_s": lambda: measure(bare, context.seconds),
        "stoker_per_s": lambda: measure(ours, context.seconds),
    }
    return interleaved(subjects, context.rounds(7, 3))


def _rate(rounds: dict[str, list[float]]) -> Figure:
    return Figure(
        "echo, 32 connections, beside the bare server",
        statistics.median(rounds["stoker_per_s"]),
        "req/s",
        reference=statistics.median(rounds["bare_per_s"]),
        ratio=ratio(rounds["stoker_per_s"], rounds["bare_per_s"]),
        target=at_least(0.5),
    )


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
            f"echo, 1 connection: added p{share} (bare {direct:.0f} µs)",
            through - direct,
            "µs",
            target=at_most(100) if share == 50 else None,
        )

    return [figure(50), figure(99)]


def _cost(context: Context, stoker: Platform, ours: Endpoint) -> dict[str, float]:
    """CPU microseconds per request at 32 connections: it holds on a busy machine too."""
    groups: dict[str, list[psutil.Process]] = {
        "gateway": [stoker.process("gateway-0")],
        "workers": stoker.workers("bench-echo"),
        "controller": [stoker.process("controller")],
        "redis": [stoker.process("redis")],
    }
    spent = Spent(groups)
    body = context.body_file(BODY, "echo")
    load = context.generator.run(ours, body, connections=CONNECTIONS, seconds=context.seconds)
    return spent.per_request(load.requests)


def _costs(cost: dict[str, float]) -> list[Figure]:
    shown = ("gateway", "workers")
    return [Figure(f"echo, 32 connections: CPU in the {n}", cost[n], "µs/req") for n in shown]
