"""The dashboard page: three static files, no framework, nothing loaded from elsewhere.

Belongs here: the files and the headers they are served with. Does not belong here: data, which the
page fetches from ``/api/stoker`` like any other client.
"""

from stoker.api.page.serve import Page

__all__ = ["Page"]
