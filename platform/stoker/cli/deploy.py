"""``stoker deploy``: sends packages and shows what becomes of them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stoker.cli.canary import CanaryOptions, declare
from stoker.cli.client import Client
from stoker.cli.failure import Failure
from stoker.cli.mlrun_function import point_mlrun
from stoker.cli.project import find_packages, listing_project
from stoker.cli.project_entry import AnyPackage
from stoker.cli.text import Progress, console, seconds

_LEVELS = {"error": "red", "warn": "yellow", "warning": "yellow"}


def deploy(
    path: Path,
    home: str | None,
    *,
    only: Sequence[str] = (),
    wait: bool,
    as_json: bool,
    canary: CanaryOptions | None = None,
) -> None:
    """Deploys everything at a path, one after the other, and stops at the first that fails.

    ``only`` names those to deploy of a project; empty is all. ``canary``: each new revision is
    tried out on a share of the traffic first; None: as the function itself declares.

    Raises:
        Failure: nothing to deploy, the platform refuses, or a function does not become ready.
    """
    client = Client.control(home)
    point_mlrun(client)
    packages = find_packages(path, only)
    if not as_json and (hint := _project_hint(packages)):
        sys.stderr.write(f"{hint}\n")
    if canary is not None:
        for package in packages:
            declare(package, canary)
    done = [_deploy_one(client, package, wait=wait, quiet=as_json) for package in packages]
    if as_json:
        sys.stdout.write(json.dumps(done, indent=2) + "\n")


def _project_hint(packages: Sequence[AnyPackage]) -> str:
    """For a function that a project lists and that is deployed without it; else empty."""
    package = packages[0]
    listed = listing_project(package.source)
    if len(packages) > 1 or listed is None or package.project == listed[1]:
        return ""
    project, _, name = listed
    return (
        f"this deploys {package.name} into project {package.project}; for the project: "
        f"stoker deploy {os.path.relpath(project)} --only {name}"
    )


def _deploy_one(client: Client, package: AnyPackage, *, wait: bool, quiet: bool) -> dict[str, Any]:
    started = time.monotonic()
    _ensure_project(client, package)
    revision = package.send(client)
    if not wait:
        function: dict[str, Any] = client.get(f"/api/functions/{package.name}")
        if not quiet:
            console().print(
                f"{package.name} revision {revision} is being deployed; how it goes: stoker ls"
            )
        return function
    with Progress(f"{package.name} revision {revision}", quiet=quiet) as progress:
        function = _follow(client, package.name, revision, progress)
    status = function["status"]
    if status["state"] in ("error", "unhealthy"):
        raise _failed(package, revision, status, told=not quiet and _in_log(status))
    if not quiet:
        took = seconds(time.monotonic() - started)
        url = f"http://{status['externalInvocationUrls'][0]}"
        tried = status.get("canary") or {}
        what = f"ready in {took}"
        if function["spec"].get("disable"):
            what = f"is deployed and disabled (spec.disable): it answers no request; took {took}"
        if str(tried.get("revision")) == revision:
            what = f"gets {100 * tried['share']:g} % as a canary after {took}"
        progress.say(f"[green]✓[/] [bold]{package.name}[/] revision {revision} {what}  {url}")
    return function


def _follow(client: Client, name: str, revision: str, progress: Progress) -> dict[str, Any]:
    shown = 0
    path = f"/api/stoker/functions/{name}/deployment?revision={revision}"
    for line in client.lines(path):
        function: dict[str, Any] = json.loads(line)
        if function.get("deleted"):
            raise Failure(f"function {name} was deleted while it was being deployed")
        logs = function["status"]["logs"]
        # A later deploy starts the log over.
        for entry in logs[shown if shown <= len(logs) else 0 :]:
            progress.log(entry["message"], _LEVELS.get(entry["level"], "dim"))
        shown = len(logs)
        progress.state(function["status"]["state"])
        if function["settled"]:
            return function
    raise Failure(f"the platform stopped answering while {name} was being deployed")


def _in_log(status: dict[str, Any]) -> bool:
    """Whether the deploy log, which was shown, has the reason itself."""
    reason = status["message"]
    logged = (entry["message"] for entry in status["logs"] if entry["level"] == "error")
    return bool(reason) and any(reason in line for line in logged)


def _failed(package: AnyPackage, revision: str, status: dict[str, Any], *, told: bool) -> Failure:
    serving = status.get("servingRevision")
    rest = f"; revision {serving} goes on serving" if serving else ""
    reason = status["message"] or "no reason was given"
    why = "" if told else f"\n{reason}"
    return Failure(
        f"{package.name} revision {revision} is {status['state']}{rest}{why}",
        hint=f"its deploy log is above; its own log: stoker logs {package.name}",
    )


def _ensure_project(client: Client, package: AnyPackage) -> None:
    """The project must exist before its functions, and a function keeps its project."""
    functions = client.send(
        "GET", "/api/functions", headers={"x-nuclio-function-name": package.name}
    ).json()
    if package.name in functions:
        from stoker.nouns.function import PROJECT_LABEL

        owner = functions[package.name]["metadata"]["labels"].get(PROJECT_LABEL)
        if owner != package.project:
            raise Failure(
                f"function {package.name} exists already, in project {owner}, "
                f"and {package.source} puts it into {package.project}",
                hint=f"delete it first: stoker rm {package.name}",
            )
    elif package.project not in client.get("/api/projects"):
        client.send("POST", "/api/projects", {"metadata": {"name": package.project}, "spec": {}})
