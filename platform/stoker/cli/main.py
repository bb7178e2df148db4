"""``stoker``: the verbs and their options. What a verb does stands in its own module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from stoker.cli import (
    ci_verbs,
    examples,
    queue_verbs,
    replay_verb,
    rollout_verbs,
    traffic_verb,
)
from stoker.cli.failure import EXIT_FAILED, EXIT_INTERRUPTED, Failure
from stoker.nouns.errors import StokerError

app = typer.Typer(
    name="stoker",
    help="A serverless GPU function platform on one machine.",
    epilog=examples.of(""),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(queue_verbs.app)
app.add_typer(rollout_verbs.app)
app.add_typer(ci_verbs.app)
for verb in (replay_verb.replay, traffic_verb.traffic):
    ci_verbs.app.command(epilog=examples.of(f"ci {verb.__name__}"))(verb)

HomeOption = Annotated[
    str | None,
    typer.Option("--home", metavar="DIR", help="The platform's home (STOKER_HOME, ~/.stoker)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The function's name.")]


def _version(asked: bool) -> None:
    if asked:
        from stoker import __version__

        typer.echo(f"stoker {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it, and exit."),
    ] = False,
) -> None:
    """A serverless GPU function platform on one machine."""


@app.command(epilog=examples.of("up"))
def up(
    home: HomeOption = None,
    host: Annotated[str, typer.Option(help="Address of both ports.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Control port; 0 picks a free one.")] = 8070,
    gateway_port: Annotated[int, typer.Option(help="Data port; 0 picks a free one.")] = 8080,
    gateways: Annotated[int, typer.Option(help="Gateway processes.")] = 1,
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="STOKER_REDIS_URL",
            help="A Redis; by default one of its own. A password belongs in the variable.",
        ),
    ] = None,
    devices: Annotated[str, typer.Option(help="auto, cpu, or sim:2x16GiB.")] = "auto",
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keys that both ports ask for.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="In the background.")] = False,
) -> None:
    """Start the platform."""
    from stoker.cli import platform_verbs

    told: dict[str, Any] = {
        "host": host,
        "port": port,
        "gateway_port": gateway_port,
        "gateways": gateways,
        "redis": redis,
        "devices": devices,
    }
    status = platform_verbs.up(home=home, key_file=api_key_file, detach=detach, told=told)
    raise typer.Exit(status)


@app.command(epilog=examples.of("down"))
def down(
    home: HomeOption = None,
    timeout: Annotated[float, typer.Option(help="Seconds it may take.")] = 60.0,
) -> None:
    """Stop the platform; functions and their state stay."""
    from stoker.cli import platform_verbs

    platform_verbs.down(home, timeout)


@app.command(epilog=examples.of("status"))
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show whether the platform runs, its URLs and its processes."""
    from stoker.cli import platform_verbs

    raise typer.Exit(platform_verbs.status(home, as_json=as_json))


@app.command(epilog=examples.of("deploy"))
def deploy(
    path: Annotated[
        Path, typer.Argument(help="function.yaml, a folder with one, or project.yaml.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Of a project.yaml only this function, with or without the project's name before "
            "its own; repeatable.",
        ),
    ] = None,
    home: HomeOption = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is ready.")] = True,
    canary: Annotated[
        str,
        typer.Option(metavar="SHARE", help="Try it out on this share of the requests first: 5%."),
    ] = "",
    canary_length: Annotated[
        str, typer.Option(metavar="TIME", help="Within its bounds for so long, it serves: 5m; 300.")
    ] = "",
    canary_requests: Annotated[
        int | None, typer.Option(min=1, help="The fewest requests before it is judged.")
    ] = None,
    canary_sticky: Annotated[
        str,
        typer.Option(metavar="HEADER", help="Requests with the same value stay on one side."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Deploy a function, or all functions of a project."""
    from stoker.cli.canary import CanaryOptions
    from stoker.cli.deploy import deploy as run

    tried = CanaryOptions(canary, canary_length, canary_sticky, canary_requests)
    run(
        path,
        home,
        only=only or (),
        wait=wait,
        as_json=as_json,
        canary=tried if tried.are_given else None,
    )


@app.command(epilog=examples.of("ls"))
def ls(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List functions."""
    from stoker.cli import listing

    listing.ls(home, as_json=as_json)


@app.command(epilog=examples.of("ps"))
def ps(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List replicas and their worker processes."""
    from stoker.cli import listing

    listing.ps(home, as_json=as_json)


@app.command(epilog=examples.of("top"))
def top(
    home: HomeOption = None,
    as_json: JsonOption = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between redraws.")] = 1.0,
    rounds: Annotated[int | None, typer.Option("-n", min=1, help="Stop after so many.")] = None,
) -> None:
    """Watch functions: rates, queues, replicas, devices."""
    from stoker.cli import listing

    listing.top(home, as_json=as_json, interval_s=interval, rounds=rounds)


@app.command(epilog=examples.of("invoke"))
def invoke(
    name: NameArgument,
    path: Annotated[str, typer.Option("--path", "-p", help="Path after the name.")] = "/",
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="Body: text, @file, or - for stdin.")
    ] = None,
    method: Annotated[str, typer.Option("--method", "-X", help="GET, or POST with data.")] = "",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="'Name: value', repeatable.")
    ] = None,
    include: Annotated[bool, typer.Option("-i", "--include", help="Show status, headers.")] = False,
    home: HomeOption = None,
) -> None:
    """Call a function and print its answer."""
    from stoker.cli.invoke import invoke as run

    code = run(
        name,
        home,
        path=path,
        data=data,
        method=method,
        headers=header or [],
        show_head=include,
    )
    raise typer.Exit(code)


@app.command(epilog=examples.of("logs"))
def logs(
    name: NameArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="How many of the last lines.")] = 200,
    since: Annotated[str, typer.Option(help="Only of the last, e.g. 10m.")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a function's log."""
    from stoker.cli import function_verbs

    function_verbs.logs(name, home, follow=follow, tail=tail, since=since, as_json=as_json)


@app.command(epilog=examples.of("rm"))
def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Functions.")],
    home: HomeOption = None,
) -> None:
    """Delete functions."""
    from stoker.cli import function_verbs

    function_verbs.remove(names, home)


@app.command(epilog=examples.of("wake"))
def wake(name: NameArgument, home: HomeOption = None) -> None:
    """Start a replica of a function that is at zero."""
    from stoker.cli import function_verbs

    function_verbs.scale(name, home, "ready")


@app.command(epilog=examples.of("sleep"))
def sleep(name: NameArgument, home: HomeOption = None) -> None:
    """Put a function to zero now."""
    from stoker.cli import function_verbs

    function_verbs.scale(name, home, "scaledToZero")


@app.command(epilog=examples.of("doctor"))
def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Check this machine and say what to do about what is missing."""
    from stoker.cli.doctor import doctor as run

    raise typer.Exit(run(home, as_json=as_json))


def main() -> None:
    """Runs the verb; every failure ends in a message and an exit code, never in a traceback."""
    try:
        app()
    except Failure as failure:
        _say(failure.message, failure.hint)
        sys.exit(failure.exit_code)
    except StokerError as error:
        _say(error.message, "")
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader went away (head, less): nothing is left to say, and nobody to say it to.
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
    except OSError as error:  # a home of somebody else's, a full disk
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error), "")
        sys.exit(EXIT_FAILED)


def _say(message: str, hint: str) -> None:
    from stoker.cli.text import printable

    sys.stderr.write(f"stoker: {printable(message)}\n")
    if hint:
        sys.stderr.write(f"  {hint}\n")


if __name__ == "__main__":
    main()
