"""``stoker ci``: what a pipeline runs: the quality gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stoker.cli import examples

app = typer.Typer(
    name="ci",
    help="For pipelines: quantize, prove, redeploy.",
    epilog=examples.of("ci"),
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

HomeOption = Annotated[
    str | None,
    typer.Option("--home", metavar="DIR", help="The platform's home (STOKER_HOME, ~/.stoker)."),
]


@app.callback(epilog=examples.of("ci"))
def group() -> None:
    """For pipelines: quantize, prove, redeploy."""


@app.command(epilog=examples.of("ci quantize"))
def quantize(
    function: Annotated[
        str,
        typer.Option("--function", "-f", metavar="NAME", help="The function; its folder's name."),
    ] = "",
    path: Annotated[
        Path, typer.Option("--path", help="The function's folder, or one with functions/ in it.")
    ] = Path(),
    rollout: Annotated[
        bool, typer.Option("--rollout/--no-rollout", help="Deploy the winner.")
    ] = True,
    again: Annotated[
        bool, typer.Option("--again", help="Evaluate even though nothing has changed.")
    ] = False,
    accept_sets: Annotated[
        bool,
        typer.Option("--accept-sets", help="Hold later runs to these sets and this reference."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print run.json.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write an HTML report.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write run.json there too.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Judge a function's recipes, and roll the best one out.

    Exit codes: 0: the winner serves, or nothing had to be done. 3: none passed, or the winner was
    rolled back. 1: it could not be found out. 2: wrong usage.
    """
    from stoker.cli.quantize import quantize as run

    code = run(
        function,
        path,
        home,
        rollout=rollout,
        again=again,
        accept_sets=accept_sets,
        as_json=as_json,
        report=report,
        out=out,
    )
    raise typer.Exit(code)
