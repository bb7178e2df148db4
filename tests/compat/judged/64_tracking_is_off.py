"""Model tracking is off by default; a router's first answer is as fast as its later ones."""

import time
from pathlib import Path

import mlrun

Path("models.py").write_text("""
import mlrun

class Echo(mlrun.serving.V2ModelServer):
    def load(self):
        pass

    def predict(self, request):
        return request["inputs"]
""")
project = mlrun.get_or_create_project("judge-tracking", "./")
fn = project.set_function("models.py", name="plain", kind="serving", image="x")
fn.add_model("m", class_name="Echo", model_path="")
fn.deploy()
assert not fn.spec.track_models, fn.spec.track_models
started = time.monotonic()
assert fn.invoke("/v2/models/m/infer", body={"inputs": [1]})["outputs"] == [1]
first = time.monotonic() - started
for _ in range(20):
    assert fn.invoke("/v2/models/m/infer", body={"inputs": [1]})["outputs"] == [1]
print(
    f"first {first * 1000:.0f} ms, then {(time.monotonic() - started - first) / 20 * 1000:.1f} ms"
)

tracked = project.set_function("models.py", name="tracked", kind="serving", image="x")
tracked.add_model("m", class_name="Echo", model_path="")
try:
    tracked.set_tracking()
    tracked.deploy()
except Exception as exc:
    print("tracking:", str(exc)[:300])
else:
    assert tracked.invoke("/v2/models/m/infer", body={"inputs": [1]})["outputs"] == [1]
