"""``stoker ci replay``: recorded requests once more, and what is answered otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stoker.cli.traffic_verb import FolderOption, HomeOption, JsonOption, NameArgument, folder_of

if TYPE_CHECKING:
    from stoker.nouns.exchange import Exchange
    from stoker.quality.replay import Plan, Target
    from stoker.quality.replay_result import ReplayResult

RECORDED = "recorded"


def replay(
    name: NameArgument,
    against: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="The baseline: 'recorded' (the recorded answers), a number (those of that "
            "revision only), or what answers now: a function's name or URL.",
        ),
    ] = RECORDED,
    candidate: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            exists=True,
            help="A function's folder, deployed for the length of the replay; by "
            "default NAME as it serves.",
        ),
    ] = None,
    record: FolderOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the newest N requests.")
    ] = None,
    step: Annotated[
        str, typer.Option(metavar="GRAPH/STEP", help="Only what this graph's step asked.")
    ] = "",
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, help="Of numbers, relative; of vectors, 1 - cosine; 1e-6."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="In JSON answers, not compared: rows[*].id; repeatable."),
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Requests in flight.")] = 4,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report: .json or .md.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send recorded requests again and compare the answers; 3 when some differ."""
    from stoker.cli.replay_report import check, shown, write
    from stoker.cli.text import console, print_json
    from stoker.decide.compare import DEFAULT_TOLERANCE, CompareRules
    from stoker.nouns.recording import checked_path
    from stoker.quality import recorded

    if report is not None:
        check(report)
    folder = folder_of(name, home, record)
    revision = int(against) if against.isdigit() else None
    exchanges = _chosen(name, folder, revision=revision, step=step, limit=limit)
    spec = recorded.declaration(folder)
    declared = spec.ignore if spec is not None else ()
    try:
        allowed = DEFAULT_TOLERANCE if tolerance is None else tolerance
        rules = CompareRules(allowed, (*declared, *map(checked_path, ignore or ())))
    except ValueError as exc:
        raise typer.BadParameter(f"--ignore {exc}") from exc
    with _targets(name, home, against, candidate) as (baseline, target):
        from stoker.quality.replay import Plan

        plan = Plan(name, target, baseline, rules, recorded.redactor(folder), at_once)
        words = f"the recorded answers of revision {revision}" if revision is not None else ""
        result = _run(exchanges, plan, words, quiet=as_json)
    if report is not None:
        write(report, result)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        for block in shown(result):
            console().print(block)
    raise typer.Exit(result.exit_code)


def _chosen(
    name: str, folder: Path, *, revision: int | None, step: str, limit: int | None
) -> list[Exchange]:
    """The requests to send, the oldest first.

    Raises:
        Failure: there are none.
    """
    from collections import deque

    from stoker.cli.failure import Failure
    from stoker.quality import recorded

    found = deque(recorded.read(folder, revision=revision, step=step), maxlen=limit)
    if found:
        return sorted(found, key=lambda exchange: exchange.time)
    held = recorded.describe(folder)
    if not held.requests:
        raise Failure(
            f"nothing is recorded of {name} in {folder}",
            hint="set STOKER_RECORD (share=0.1) in its env, deploy it, and let it be used",
        )
    has = ", ".join(map(str, sorted(held.revisions)))
    raise Failure(f"none of the {held.requests} requests is of that revision or step: it has {has}")


@contextmanager
def _targets(
    name: str, home: str | None, against: str, candidate: Path | None
) -> Iterator[tuple[Target | None, Target]]:
    """The live baseline, if that is what is wanted, and the candidate."""
    with ExitStack() as stack:
        gateway = _Gateway(home)
        baseline = None
        if "://" in against:
            baseline = gateway.elsewhere(against)
        elif against != RECORDED and not against.isdigit():
            baseline = gateway.function(against)
        if candidate is None:
            yield baseline, gateway.function(name)
            return
        made = stack.enter_context(gateway.trial(candidate, name))
        yield baseline, gateway.function(made, words=f"{candidate} (as {made})")


class _Gateway:
    """Turns a function's name into a target."""

    def __init__(self, home: str | None) -> None:
        from stoker.cli.client import Client, data_key

        self._control = Client.control(home)
        self._home = home
        key = data_key()
        self._headers = {"x-api-key": key} if key else {}

    def function(self, name: str, words: str = "") -> Target:
        """A function of this platform.

        Raises:
            Failure: there is none of that name.
        """
        from urllib.parse import quote

        from stoker.quality.replay import Target

        status = self._control.get(f"/api/functions/{quote(name)}")["status"]
        serving = f"{name} revision {status.get('servingRevision') or '-'}"
        return Target(words or serving, f"{self._url(name)}/{quote(name)}", self._headers)

    def _url(self, name: str) -> str:
        """Of the data port: known from the home, else asked for."""
        from urllib.parse import quote

        from stoker.cli.client import Platform

        url = Platform.find(self._home).gateway_url
        if url:
            return url
        status = self._control.get(f"/api/functions/{quote(name)}")["status"]
        return f"http://{str(status['externalInvocationUrls'][0]).partition('/')[0]}"

    @contextmanager
    def trial(self, path: Path, name: str) -> Iterator[str]:
        """The name of a function made from ``path``, ready; it is deleted at the end.

        Raises:
            StokerError: it cannot be packed or deployed, or does not become ready.
        """
        import signal

        from stoker.quality.package import Package, project_of
        from stoker.quality.platform import Platform
        from stoker.quality.trial import trial

        # A pipeline that is cancelled gets SIGTERM: then too the trial is deleted.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        package = Package.read(path if path.is_dir() else path.parent)
        with Platform(self._control.url, self._url(name)) as platform:
            serving = platform.function(name)
            project = project_of(package.document if serving is None else serving)
            recipe = f"replay-{os.urandom(3).hex()}"
            document = package.trial(name, recipe, {}, project)
            with trial(platform, document, None, _tell):
                yield str(document["metadata"]["name"])

    def elsewhere(self, url: str) -> Target:
        """What answers at a URL; our key stays here."""
        from stoker.quality.replay import Target

        return Target(url, url.rstrip("/"))


def _tell(line: str) -> None:
    from stoker.cli.text import console, printable

    console(stderr=True).print(f"  {printable(line)}", style="dim", markup=False)


def _run(exchanges: list[Exchange], plan: Plan, words: str, *, quiet: bool) -> ReplayResult:
    """Replays, with a bar where somebody watches."""
    import asyncio

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from stoker.cli.text import console
    from stoker.quality.replay import replay as run

    bar = Progress(
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        disable=quiet,
    )
    with bar:
        task = bar.add_task(f"replaying {plan.function}", total=len(exchanges))
        options = {"baseline_words": words} if words else {}
        return asyncio.run(
            run(
                exchanges,
                plan,
                progress=lambda done: bar.update(task, completed=done),
                **options,
            )
        )
