"""``stoker ci``: whether a changed function may serve."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="ci",
    help="Quality of models and functions, for pipelines.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
