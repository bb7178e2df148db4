"""What a worker is told that its function's code and listings do not show."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from stoker.controller.launching import worker_launch
from stoker.controller.settings import ControllerSettings
from stoker.nouns.function import FunctionConfig
from stoker.nouns.home import Home
from stoker.nouns.record import Revision

REDIS = "redis://:word@127.0.0.1/0"


def test_a_worker_can_reach_its_neighbours_and_shows_no_key() -> None:
    document = {"metadata": {"name": "fn"}, "spec": {}}
    launch = worker_launch(
        config=FunctionConfig.parse(document),
        revision=Revision(number=1, document=document, code_dir="/code"),
        replica="fn-1",
        index=0,
        devices=(),
        home=Home(Path("/home")),
        settings=ControllerSettings(
            gateway_key=SecretStr("sesame-42"), redis_url=REDIS, cores=2, devices="cpu"
        ),
    )
    assert (launch.gateway_key, launch.redis_url) == ("sesame-42", REDIS)
    shown = f"{launch!r} {launch.env}"
    assert "sesame-42" not in shown
    assert REDIS not in shown
