"""The control port: Nuclio's dashboard API, the platform's own views, the dashboard page.

Belongs here: turning HTTP into writes of records and records into documents, the guard in front of
that (Host, Origin, keys, sizes), masking of secrets. Does not belong here: acting on what was
written (the controller does), traffic of functions beyond the dashboard's own invocation proxy,
Redis (the store speaks it).
"""

from stoker.api.app import build_app
from stoker.api.settings import ApiSettings

__all__ = ["ApiSettings", "build_app"]
