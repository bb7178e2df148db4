"""``with_http()`` alone means eight workers: eight copies of a model on one device are refused in bytes."""

from pathlib import Path

import mlrun

Path("func.py").write_text("def handler(context, event):\n    return 1\n")
project = mlrun.get_or_create_project("fit", "./")


def deploy(workers, memory):
    fn = project.set_function("func.py", name="heavy", kind="nuclio", image="x")
    fn.with_limits(gpus=1)
    fn.set_env("STOKER_GPU_MEMORY", memory)
    fn.with_http(**({"workers": workers} if workers else {}))
    fn.deploy()
    return fn


try:
    deploy(None, "300Mi")
except Exception as exc:
    text = str(exc)
    assert "8" in text, text
    assert "MiB" in text or "GiB" in text or "bytes" in text, text
    print("refused:", text)
else:
    raise AssertionError("8 workers of 300 MiB were deployed on 1 GiB")
assert deploy(2, "300Mi").invoke("/") in (1, "1", b"1")
try:
    fn = project.set_function("func.py", name="wide", kind="nuclio", image="x")
    fn.with_limits(gpus=4)
    fn.with_http(workers=1)
    fn.deploy()
except Exception as exc:
    assert "4" in str(exc), exc
    assert "GPU" in str(exc), exc
else:
    raise AssertionError("4 GPUs were dealt by a home with one")
