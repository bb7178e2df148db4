"""API gateways and canaries are not here: the client hears 501 and which call it was.

Pages: docs/serving/canary, docs/serving/api-gateway
"""

from pathlib import Path

import mlrun
import mlrun.runtimes.nuclio.api_gateway as gateways

Path("func.py").write_text("def handler(context, event):\n    return 'x'\n")
project = mlrun.get_or_create_project("doc-gateway", "./")
one = project.set_function("func.py", name="fn1", kind="nuclio", image="mlrun/mlrun")
two = project.set_function("func.py", name="fn2", kind="nuclio", image="mlrun/mlrun")
one.deploy()
two.deploy()
gateway = gateways.APIGateway(
    gateways.APIGatewayMetadata(name="gw-canary"),
    gateways.APIGatewaySpec(functions=[one, two], project=project.name, canary=[60, 40]),
)
try:
    project.store_api_gateway(gateway)
except mlrun.errors.MLRunHTTPError as exc:
    assert exc.response.status_code == 501, exc
    assert "api-gateways" in str(exc), exc
else:
    raise AssertionError("an API gateway was stored")
