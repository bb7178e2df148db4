"""``python -m bench``: runs the benchmarks, prints one table, writes ``.bench/``."""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from bench import archive, machine
from bench.context import OUT, Context
from bench.load import ADVICE, Generator
from bench.result import CannotRun, Result
from bench.table import table

OWN = (
    "echo",
    "wake",
    "batching",
    "memory",
    "deploy",
    "graphs",
    "eviction",
    "quantization",
    "compression",
)
PEERS = "peers"
GPU = "gpu"
"""Needs a card, so it runs only when it is named."""
WIDTH = 120
"""Columns of the table in a file or a pipe."""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = (*OWN, PEERS, GPU)
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="short rounds: to try it out")
    parser.add_argument("--peers", action="store_true", help="the other servers, and nothing else")
    return parser.parse_args(argv)


def chosen(options: argparse.Namespace) -> tuple[str, ...]:
    """Names of the benchmarks to run."""
    if options.only:
        return tuple(options.only)
    return (PEERS,) if options.peers else OWN


def measure(name: str, context: Context, console: Console) -> Result:
    """Runs one; what it lacks, if it lacks something, is its result."""
    console.rule(name)
    start = time.monotonic()
    try:
        result: Result = importlib.import_module(f"bench.{name}").run(context)
    except CannotRun as exc:
        result = Result(name, not_run={name: str(exc)})
    console.print(f"[dim]{name}: {time.monotonic() - start:.0f} s[/]")
    return result


def main(argv: Sequence[str]) -> int:
    """0 when everything chosen could be measured, whatever the figures; 1 when something not."""
    options = arguments(argv)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    cores = machine.share(os.sched_getaffinity(0))
    generator = Generator.found(cores.loading)
    if generator.wrk is None:
        console.print(f"[yellow]{ADVICE}[/]")
    context = Context(
        options.quick, cores, generator, lambda text: console.print(f"  {text}", markup=False)
    )
    facts = {**machine.facts(), "generator": generator.name, "quick": options.quick}
    notice = machine.busy(os.getloadavg()[0], len(os.sched_getaffinity(0)))
    if notice:
        console.print(f"[yellow]{notice}[/]")
    results = [measure(name, context, console) for name in chosen(options)]
    archive.keep(results, OUT, facts, datetime.datetime.now(tz=datetime.UTC))
    console.print(table(results))
    for result in results:
        if result.name == PEERS and result.figures:
            _draw(console)
    return int(any(result.not_run and not result.figures for result in results))


def _draw(console: Console) -> None:
    from bench.plot import main as draw

    console.print(f"picture: {draw([])}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
