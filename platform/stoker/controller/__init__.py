"""The controller: makes what runs equal to what the records ask for. Observe, decide, act.

Belongs here: the one loop that owns replicas (start, drain, kill, replace, adopt), deployments and
their builds, autoscaling, placement's ledger, cron, and the pruning of function logs. Decisions
come from `stoker.decide`; `reconcile.Reconciler` is synchronous and clockless, and
`controller.Controller` is its shell of sockets, processes and the store.

Does not belong here: HTTP of any outside protocol, Redis, requests and their routing, model code.
"""

from stoker.controller.controller import Controller
from stoker.controller.settings import ControllerSettings

__all__ = ["Controller", "ControllerSettings"]
