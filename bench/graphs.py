"""Graphs: a chain of three functions, beside the functions alone and over HTTP; a router."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.context import Context
from bench.cpu_time import Spent
from bench.job import BODY, Endpoint
from bench.latency import Line
from bench.result import CannotRun, Figure, Result, at_least, at_most
from bench.samples import interleaved, percentile, ratio
from bench.stoker_home import FUNCTIONS, Platform, platform

PROJECT = FUNCTIONS / "graph"
ROUTER_ALONE = Path(__file__).parent / "router_once.py"
STEPS = ("bench-before", "bench-model", "bench-after")
CHAIN, OVER_HTTP, ROUTER = "bench-chain", "bench-chain-over-http", "bench-router"
INFER = "/v2/models/echo/infer"
INPUTS = b'{"inputs": [[1, 2, 3]]}'
CONNECTIONS = 32
BLOCK = 100
"""Requests of one side before the other side's turn, in the latency loop."""
EVENTS = 3000
"""Events of one measurement of mlrun's own server."""


def run(context: Context) -> Result:
    """Latency at one connection, throughput at 32, and what a request costs the router's worker."""
    with platform(context) as stoker:
        stoker.deploy(PROJECT)
        sides = {name: _echoing(stoker, name) for name in (*STEPS, CHAIN, OVER_HTTP)}
        latency = _latency(context, sides)
        rates = _rates(context, sides)
        costs = {name: _cost(context, stoker, name, sides[name]) for name in (CHAIN, OVER_HTTP)}
        router = _router(context, stoker)
    return Result(
        "graphs",
        [*_latency_figures(latency), *_rate_figures(rates, costs), *_router_figures(router)],
        details={**latency, **rates, **router, "cpu_us": costs},
    )


def _echoing(stoker: Platform, name: str) -> Endpoint:
    endpoint = stoker.endpoint(name)
    if not endpoint.echoes():
        raise CannotRun(f"{endpoint.url} does not echo: {endpoint.post()!r}")
    return endpoint


def _latency(context: Context, sides: Mapping[str, Endpoint]) -> dict[str, list[float]]:
    """The p50 of each side in every round, microseconds."""
    lines = {name: Line(endpoint) for name, endpoint in sides.items()}

    def measure(name: str) -> float:
        return percentile([1e6 * lines[name].once() for _ in range(BLOCK)], 0.5)

    try:
        for name in lines:
            measure(name)
        subjects = {f"{name}_p50_us": lambda name=name: measure(name) for name in lines}
        return interleaved(subjects, context.rounds(40, 6))
    finally:
        for line in lines.values():
            line.close()


def _latency_figures(rounds: Mapping[str, list[float]]) -> list[Figure]:
    alone = [sum(each) for each in zip(*(rounds[f"{name}_p50_us"] for name in STEPS), strict=True)]

    def figure(what: str, name: str, *, judged: bool) -> Figure:
        seen = rounds[f"{name}_p50_us"]
        return Figure(
            f"{what}, 1 connection: p50, beside the three functions' sum",
            statistics.median(seen),
            "µs",
            reference=statistics.median(alone),
            ratio=ratio(seen, alone),
            target=at_most(1.5) if judged else None,
        )

    return [
        figure("graph of three functions", CHAIN, judged=True),
        figure("the same over HTTP", OVER_HTTP, judged=False),
    ]


def _rates(context: Context, sides: Mapping[str, Endpoint]) -> dict[str, list[float]]:
    body = context.body_file(BODY, "graph")

    def measure(name: str, seconds: float) -> float:
        load = context.generator.run(sides[name], body, connections=CONNECTIONS, seconds=seconds)
        context.say(f"{name}: {load.per_second:,.0f}/s, p99 {load.p99_us / 1000:.1f} ms")
        return load.per_second

    for name in (CHAIN, OVER_HTTP):
        measure(name, 1)
    subjects = {
        f"{name}_per_s": lambda name=name: measure(name, context.seconds)
        for name in (CHAIN, OVER_HTTP)
    }
    return interleaved(subjects, context.rounds(7, 3))


def _cost(context: Context, stoker: Platform, name: str, side: Endpoint) -> dict[str, float]:
    """CPU microseconds per request by process: it holds on a busy machine too."""
    groups: dict[str, list[psutil.Process]] = {
        "gateway": [stoker.process("gateway-0")],
        "graph": stoker.workers(name),
        "functions": [worker for step in STEPS for worker in stoker.workers(step)],
    }
    spent = Spent(groups)
    body = context.body_file(BODY, "graph")
    load = context.generator.run(side, body, connections=CONNECTIONS, seconds=context.seconds)
    return spent.per_request(load.requests)


def _rate_figures(
    rounds: Mapping[str, list[float]], costs: Mapping[str, Mapping[str, float]]
) -> list[Figure]:
    ours, theirs = rounds[f"{CHAIN}_per_s"], rounds[f"{OVER_HTTP}_per_s"]
    place = f"{CONNECTIONS} connections"
    rate = Figure(
        f"graph of three functions, {place}, beside mlrun's step over HTTP",
        statistics.median(ours),
        "req/s",
        reference=statistics.median(theirs),
        ratio=ratio(ours, theirs),
        target=at_least(2),
    )
    return [
        rate,
        *(
            Figure(
                f"graph of three functions, {place}: CPU in the {where}",
                costs[CHAIN][where],
                "µs/req",
                reference=costs[OVER_HTTP][where],
            )
            for where in costs[CHAIN]
        ),
    ]


def _router(context: Context, stoker: Platform) -> dict[str, list[float]]:
    """CPU and time of a request to the router's one worker, and of an event in mlrun's server."""
    endpoint = stoker.endpoint(ROUTER, INFER)
    status, answer = endpoint.post(INPUTS)
    if status != 200:
        raise CannotRun(f"{endpoint.url} answered {status}: {answer[:300]!r}")
    body = context.body_file(INPUTS, "router")
    figures: dict[str, list[float]] = {"cpu_us": [], "wall_us": []}
    figures |= {f"alone_{name}": [] for name in figures}
    with _alone(context) as ask:
        ask()
        for _ in range(context.rounds(7, 3)):
            spent = Spent({"workers": stoker.workers(ROUTER)})
            load = context.generator.run(
                endpoint, body, connections=CONNECTIONS, seconds=context.seconds
            )
            figures["cpu_us"].append(spent.per_request(load.requests)["workers"])
            figures["wall_us"].append(1e6 / load.per_second)
            for name, value in ask().items():
                figures[f"alone_{name}"].append(value)
    return {f"router_{name}": values for name, values in figures.items()}


@contextmanager
def _alone(context: Context) -> Iterator[_Ask]:
    """mlrun's own server, in a process of its own on the serving cores."""
    with subprocess.Popen(
        [sys.executable, str(ROUTER_ALONE), str(EVENTS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            psutil.Process(process.pid).cpu_affinity(list(context.cores.serving))
            yield _Ask(process)
        finally:
            process.kill()


class _Ask:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self) -> dict[str, float]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):  # mlrun talks as well
                return dict(json.loads(line))
        raise CannotRun("bench/router_once.py ended; its message stands above")


def _router_figures(rounds: Mapping[str, list[float]]) -> list[Figure]:
    def per_second(name: str) -> list[float]:
        return [1e6 / us for us in rounds[f"router_{name}"]]

    ours, alone = per_second("cpu_us"), per_second("alone_cpu_us")
    through, within = per_second("wall_us"), per_second("alone_wall_us")
    return [
        Figure(
            "model router, echo model: requests by a worker's core-second, beside mlrun's server",
            statistics.median(ours),
            "req/s",
            reference=statistics.median(alone),
            ratio=ratio(ours, alone),
            target=at_least(0.7),
        ),
        Figure(
            "the same over HTTP, generator and gateway on the same cores, beside mlrun's calls",
            statistics.median(through),
            "req/s",
            reference=statistics.median(within),
            ratio=ratio(through, within),
        ),
    ]
