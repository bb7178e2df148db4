"""MLRun's API, as its SDK calls it: ``/api/v1/…`` and ``/api/v2/…`` of the control port.

Belongs here: MLRun's routes, their parameters and their shapes; MLRun's function objects to
Nuclio's. Does not belong here: SQL (`stoker.store.catalog`), what happens after a deploy is stored.
"""

from stoker.api.mlrun.resources import mlrun_resources

__all__ = ["mlrun_resources"]
