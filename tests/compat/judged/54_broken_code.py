"""A syntax error, a missing module, a handler that is not there: an error with its reason; the old one serves on."""

import time
from pathlib import Path

import mlrun

project = mlrun.get_or_create_project("judge-broken", "./")


def deployed(name, code):
    Path(f"{name}.py").write_text(code)
    return project.set_function(f"{name}.py", name=name, kind="nuclio", image="x")


fn = deployed("survivor", "def handler(context, event):\n    return 'works'\n")
fn.deploy()
broken = (
    ("def handler(context, event):\n    return (\n", "SyntaxError"),
    ("import no_such_module\n\ndef handler(context, event):\n    return 1\n", "no_such_module"),
    ("def other(context, event):\n    return 1\n", "handler"),
    (
        "def init_context(context):\n    raise RuntimeError('not today')\n\ndef handler(c, e):\n    return 1\n",
        "not today",
    ),
)
db = mlrun.get_run_db()
for code, reason in broken:
    started = time.monotonic()
    again = deployed("survivor", code)
    try:
        again.deploy()
    except (mlrun.runtimes.utils.RunError, OSError) as exc:
        # What can be seen before anything is built is refused at once: a 400 with the line.
        text = str(exc)
        if reason not in text:
            text, _ = db.get_nuclio_deploy_status(again, last_log_timestamp=0, verbose=True)
            assert again.status.state in ("error", "unhealthy"), again.status.state
        assert reason in text, (reason, text)
    else:
        raise AssertionError(f"{reason} was deployed")
    assert time.monotonic() - started < 30, "the failure took too long to be told"
    old = mlrun.get_or_create_project("judge-broken", "./").get_function("survivor", sync=True)
    old.status.state = "ready"
    assert old.invoke("/") in ("works", b"works"), reason

fixed = deployed("survivor", "def handler(context, event):\n    return 'again'\n")
fixed.deploy()
assert fixed.invoke("/") in ("again", b"again")
