"""How what runs in a worker finds the platform's own APIs, and is let in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from stoker.controller.launching import worker_launch
from stoker.controller.settings import ControllerSettings
from stoker.nouns.function import FunctionConfig
from stoker.nouns.home import Home
from stoker.nouns.record import Revision

CONTROL = "http://127.0.0.1:8070"
KEY = "0123456789"


def environment(key: str = "", *, by_mlrun: bool = True, **declared: str) -> dict[str, str]:
    env = [{"name": name, "value": value} for name, value in declared.items()]
    labels = {"mlrun/class": "serving"} if by_mlrun else {}
    document: dict[str, Any] = {"metadata": {"name": "fn", "labels": labels}, "spec": {"env": env}}
    settings = ControllerSettings(
        control_url=CONTROL, control_key=SecretStr(key) if key else None, cores=2
    )
    launch = worker_launch(
        config=FunctionConfig.parse(document),
        revision=Revision(number=1, document=document, code_dir="/code"),
        replica="fn-1",
        index=0,
        devices=(),
        home=Home(Path("/home")),
        settings=settings,
    )
    return launch.env


def test_a_worker_knows_where_each_client_finds_the_platform() -> None:
    env = environment()
    for name in ("MLRUN_DBPATH", "NUCLIO_DASHBOARD_URL", "V3IO_API"):
        assert env[name] == CONTROL
    assert env["V3IO_ACCESS_KEY"]  # v3io's client does not start without one


def test_with_a_key_the_clients_have_it_and_no_url_does() -> None:
    env = environment(KEY)
    assert env["V3IO_ACCESS_KEY"] == KEY
    assert KEY not in env["MLRUN_DBPATH"] + env["NUCLIO_DASHBOARD_URL"] + env["V3IO_API"]


def test_what_a_function_declares_wins() -> None:
    env = environment(KEY, MLRUN_DBPATH="http://elsewhere", V3IO_ACCESS_KEY="mine")
    assert env["MLRUN_DBPATH"] == "http://elsewhere"
    assert env["V3IO_ACCESS_KEY"] == "mine"


def test_the_platforms_key_is_not_for_functions_that_mlrun_did_not_deploy() -> None:
    assert KEY not in environment(KEY, by_mlrun=False).values()
