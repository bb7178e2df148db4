"""MLRun's objects (projects, functions, artifacts, runs, …), kept whole in one SQLite file.

Belongs here: what an MLRun client stored and will ask for again, by name, tag, uid and label. Does
not belong here: what Stoker routes by (functions and replicas are in Redis), HTTP, any decision.
"""

from stoker.store.catalog.catalog import Catalog

__all__ = ["Catalog"]
