"""``stoker ci quantize``: finds the function and the platform, runs the gate, shows the result."""

from __future__ import annotations

import difflib
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from stoker.cli.client import Client, NotRunning, Platform
from stoker.cli.failure import EXIT_USAGE, Failure
from stoker.cli.pack import FUNCTION_FILES
from stoker.cli.project import listing_project
from stoker.cli.table import Table, screen_width
from stoker.cli.text import console, printable, seconds, size
from stoker.nouns.extras import install
from stoker.nouns.home import Home

if TYPE_CHECKING:
    from stoker.quality.result import CandidateResult, QualityRun

EXIT_REFUSED = 3
"""None passed, or the winner was rolled back: the gate works, and says no."""
_DECLARED = "quality.yaml"
_JUDGES = ("numpy", "scipy", "sklearn")


class _Place(NamedTuple):
    """A platform to try recipes on; ``own``: started for this run, so nothing can serve on it."""

    control_url: str
    gateway_url: str
    home: Path | None
    own: bool


def quantize(
    function: str,
    path: Path,
    home: str | None,
    *,
    rollout: bool,
    again: bool,
    accept_sets: bool,
    as_json: bool,
    report: Path | None,
    out: Path | None,
) -> int:
    """Runs the gate; the exit code.

    Raises:
        Failure: there is no such function, or it declares no quality.
        StokerError: the gate cannot be run.
    """
    folder = find_folder(function, path)
    _check_packages()
    from stoker.quality.run import run_quality

    _check_places(report, out)
    kept = _made(Home.at(home)).quality
    # A pipeline that is cancelled gets SIGTERM: then too the trials are deleted.
    signal.signal(signal.SIGTERM, _interrupted)
    with _progress(quiet=as_json) as tell, _platform(home, tell) as place:
        found = run_quality(
            folder,
            control_url=place.control_url,
            gateway_url=place.gateway_url,
            home=place.home,
            function=_deployed_name(folder, home) if not place.own else None,
            rollout=rollout and not place.own,
            out=out,
            progress=tell,
            kept=kept,
            accept_sets=accept_sets,
            again=again,
        )
    if as_json:
        sys.stdout.write(found.model_dump_json(indent=2) + "\n")
    else:
        show(found)
        if place.own and rollout and found.winner:
            console().print("no platform runs: a temporary one was used, and nothing rolled out")
    if report is not None:
        _report(found, report)
    return exit_code(found)


def _made(home: Home) -> Home:
    """The home, there: results are kept in it, and a platform takes none that others may write."""
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def _interrupted(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def exit_code(run: QualityRun) -> int:
    """0 where what should serve does, or nothing was to be rolled out; else `EXIT_REFUSED`."""
    if run.verdict == "refused":
        return EXIT_REFUSED
    done = ("promoted", "running")
    if run.verdict == "winner" and run.rollout and run.rollout.get("state") not in done:
        return EXIT_REFUSED
    return 0


def find_folder(function: str, path: Path) -> Path:
    """The folder of a function that declares its quality.

    Raises:
        Failure: none, or several and none was named; with near names.
    """
    if (path / _DECLARED).is_file():
        if function and path.resolve().name != function and function != _own_name(path):
            raise Failure(f"{path} is the function {_own_name(path)}, not {function}")
        return path
    folders = {file.parent.name: file.parent for file in path.glob(f"functions/*/{_DECLARED}")}
    folders |= {_own_name(folder): folder for folder in [*folders.values()]}
    if function in folders:
        return folders[function]
    if not function and len({*folders.values()}) == 1:
        return next(iter(folders.values()))
    raise _not_found(function, path, folders)


def _not_found(function: str, path: Path, folders: dict[str, Path]) -> Failure:
    there = path.resolve() / "functions" / function
    if function and any((there / name).is_file() for name in FUNCTION_FILES):
        return Failure(
            f"{there} has no {_DECLARED}: it says what the recipes are judged by",
            hint="docs/quality.md has an example",
        )
    if not folders:
        return Failure(
            f"no function in {path.resolve()} has a {_DECLARED}",
            hint="name the function's folder with --path, or run it where functions/ is",
            exit_code=EXIT_USAGE,
        )
    near = difflib.get_close_matches(function, folders, n=1)
    meant = f"did you mean {near[0]}?" if near else f"there is {', '.join(sorted(folders))}"
    said = f"there is no function {function!r}" if function else "say which --function"
    return Failure(said, hint=meant, exit_code=EXIT_USAGE)


def _own_name(folder: Path) -> str:
    import yaml

    for name in FUNCTION_FILES:
        try:
            document = yaml.safe_load((folder / name).read_text())
            return str(document["metadata"]["name"])
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            continue
    return folder.name


def _deployed_name(folder: Path, home: str | None) -> str | None:
    """The function's name on the platform: with its project's before it, if it was deployed so."""
    path = next((folder / name for name in FUNCTION_FILES if (folder / name).is_file()), None)
    listed = listing_project(path) if path else None
    if listed is None:
        return None
    _, project, name = listed
    whole = name if name.startswith(f"{project}-") else f"{project}-{name}"
    return whole if whole in Client.control(home).get("/api/functions") else None


@contextmanager
def _platform(home: str | None, tell: Callable[[str], None]) -> Iterator[_Place]:
    """The running platform, else a temporary one that ends with the run."""
    try:
        found = Platform.find(home)
    except NotRunning:
        with _temporary(home, tell) as place:
            yield place
        return
    own_home = Home.at(home)
    here = own_home.root if _runs_in(own_home, found) else None
    gateway = found.gateway_url or _gateway(home)
    yield _Place(found.control_url, gateway, here, own=False)


def _runs_in(home: Home, platform: Platform) -> bool:
    """Whether it is this home's: STOKER_URL may name another, whose checkpoints lie elsewhere."""
    try:
        own = Platform.find(str(home.root))
    except Failure:
        return False
    return _place_of(own.control_url) == _place_of(platform.control_url)


def _place_of(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return ("localhost" if host in ("127.0.0.1", "::1") else host), parts.port


def _gateway(home: str | None) -> str:
    """Asked for, when only STOKER_URL is known."""
    functions = Client.control(home).get("/api/functions")
    for one in functions.values():
        urls = one["status"].get("externalInvocationUrls") or []
        if urls:
            return f"http://{urls[0].partition('/')[0]}"
    raise Failure(
        "where the platform's functions answer is not known: it has none yet",
        hint="name its home with --home",
    )


@contextmanager
def _temporary(home: str | None, tell: Callable[[str], None]) -> Iterator[_Place]:
    from stoker.app.local import local

    tell("no platform runs: starting a temporary one")
    folder = Path(tempfile.mkdtemp(prefix="stoker-ci-"))
    try:
        kept = Home.at(home).models
        kept.mkdir(parents=True, exist_ok=True)
        # What was prepared once stays prepared.
        Home.at(folder / "h").models.parent.mkdir(mode=0o700)
        Home.at(folder / "h").models.symlink_to(kept)
        with local(folder / "h", port=0, gateway_port=0, zygotes=("plain", "torch")) as running:
            yield _Place(running.url, running.gateway_url, folder / "h", own=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Lines on stderr, in a terminal with the step that takes long under them."""
    if quiet:
        yield lambda _line: None
        return
    out = console(stderr=True)
    started = time.monotonic()
    status = out.status("…") if out.is_terminal else None

    def tell(line: str) -> None:
        stamp = f"{time.monotonic() - started:6.1f}s"
        detail = line.startswith(" ")
        out.print(f"{stamp}  {printable(line)}", style="dim" if detail else "", markup=False)
        if status is not None:
            status.update(printable(line.strip()))

    if status is not None:
        status.start()
    try:
        yield tell
    finally:
        if status is not None:
            status.stop()


def show(run: QualityRun) -> None:
    """The table, the reasons, the verdict."""
    out = console()
    if not run.repeated:
        metrics = [f"{one.set} {one.metric}" for one in run.reference.metrics]
        rows = Table(
            "RECIPE", "VERDICT", *(name.upper() for name in metrics), "AGREE", "BYTES", "MS 1",
            "MS 16", "MEMORY", "READY",
            right=(*(name.upper() for name in metrics), "AGREE", "BYTES", "MS 1", "MS 16",
                   "MEMORY", "READY"),
            spare=("READY", "MEMORY", "AGREE", "MS 16"),
        )  # fmt: skip
        for one in (run.reference, *run.candidates):
            rows.add(*_cells(one, run, len(metrics)))
        out.print(rows.text(screen_width()))
        for one in run.candidates:
            for reason in [one.error] if one.error else _refusals(one):
                out.print(f"[red]✗[/] {one.name}: ", end="")
                out.print(printable(reason), markup=False)
    good = exit_code(run) == 0
    out.print("[green]✓[/] " if good else "[red]✗[/] ", end="")
    out.print(f"{printable(run.words)}; {seconds(run.seconds)}", markup=False)


def _refusals(one: CandidateResult) -> list[str]:
    return [check.words for check in one.checks if not check.passed]


def _cells(one: CandidateResult, run: QualityRun, metrics: int) -> list[str]:
    reference = one.name == run.reference.name
    if reference:
        verdict = "reference"
    elif one.error:
        verdict = "[red]failed[/]"
    elif one.name == run.winner:
        verdict = "[green]winner[/]"
    else:
        verdict = "[green]passed[/]" if one.passed else "[red]refused[/]"
    values = [
        f"{metric.candidate.value:.4f}" + ("" if reference else f" {metric.difference.value:+.4f}")
        for metric in one.metrics
    ]
    values += ["-"] * (metrics - len(values))
    agreements = [metric.agreement for metric in one.metrics if metric.agreement is not None]
    agreement = "-" if reference or not agreements else f"{agreements[0]:.4f}"
    measured = one.measured
    if measured is None:
        return [one.name, verdict, *values, agreement, "-", "-", "-", "-", "-"]
    times = [measured.latency_ms.get(count) for count in ("1", "16")]
    return [
        one.name, verdict, *values, agreement, size(measured.weight_bytes),
        *("-" if ms is None else f"{ms:.1f}" for ms in times),
        size(measured.memory_bytes), seconds(measured.ready_s),
    ]  # fmt: skip


def _check_packages() -> None:
    """Looked for, not imported: where nothing has changed they are not needed."""
    for name in _JUDGES:
        if importlib.util.find_spec(name) is None:
            raise Failure(f"the quality gate needs the package {name}", hint=install("quality"))


def _check_places(report: Path | None, out: Path | None) -> None:
    """Whether what is found can be written; asked before the minutes are spent that it takes."""
    for option, folder in (("--report", report.parent if report else None), ("--out", out)):
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as exc:
            raise Failure(f"{option}: {folder} cannot be written to: {exc}") from exc
    if report is not None:
        if report.is_dir():
            raise Failure(f"--report must be a file, {report} is a folder", exit_code=EXIT_USAGE)
        _report_writer()


def _report_writer() -> Callable[[QualityRun, Path], Path]:
    try:
        from stoker.quality.report import write_report
    except ModuleNotFoundError as exc:
        raise Failure(
            f"the report cannot be written: there is no {exc.name}",
            hint=install("quality"),
        ) from exc
    return write_report


def _report(run: QualityRun, path: Path) -> None:
    try:
        _report_writer()(run, path)
    except OSError as exc:
        raise Failure(f"the report cannot be written: {exc}") from exc
    if not os.environ.get("CI"):
        console(stderr=True).print(f"report: {path}", markup=False)
