"""Every refusal that a user can meet, each knowing its HTTP status, its code and its retry advice.

The envelope is the same on every port: ``{"error": {"code", "message", "request_id", …}}``.
``code`` is stable and made for programs, ``message`` is made for people.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar


class StokerError(Exception):
    """The base of every error that leaves Stoker.

    Attributes:
        code: stable, snake_case identifier of the kind of failure.
        status: HTTP status code.
        retry_after_s: seconds after which trying again makes sense, or None.
        detail: further facts for programs (near names, limits, field errors).
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, retry_after_s: float | None = None, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.detail = detail

    def envelope(self, request_id: str = "") -> dict[str, Any]:
        """The JSON body of the reply."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if request_id:
            body["request_id"] = request_id
        if self.retry_after_s is not None:
            body["retry_after_s"] = round(self.retry_after_s, 3)
        body.update(self.detail)
        return {"error": body}

    def headers(self) -> dict[str, str]:
        """Headers of the reply: ``Retry-After`` in whole seconds, rounded up, never 0."""
        if self.retry_after_s is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}


class BadRequest(StokerError):
    """The request cannot be understood."""

    code = "bad_request"
    status = 400


class InvalidFunction(BadRequest):
    """A function's configuration breaks a rule; ``detail["fields"]`` lists each."""

    code = "invalid_function"


class UnusableModel(BadRequest):
    """``STOKER_MODEL`` is not there, is not readable, or cannot be prepared as declared."""

    code = "unusable_model"


class Unauthorized(StokerError):
    """No key, or a wrong one."""

    code = "unauthorized"
    status = 401


class Forbidden(StokerError):
    """The Host or Origin header shows a request that a web page of another site caused."""

    code = "forbidden"
    status = 403


class FunctionNotFound(StokerError):
    """No function of that name; ``detail["near"]`` lists similar names.

    Attributes:
        name: that was asked for; empty where it was not by name.
    """

    name = ""

    code = "function_not_found"
    status = 404


class NotFound(StokerError):
    """No such thing (project, invocation, replica, route)."""

    code = "not_found"
    status = 404


class MethodNotAllowed(StokerError):
    """The route exists, the method does not."""

    code = "method_not_allowed"
    status = 405


class DeadlineExceeded(StokerError):
    """The deadline (``X-Request-Timeout`` or ``eventTimeout``) passed. Nuclio's 408."""

    code = "deadline_exceeded"
    status = 408


class Conflict(StokerError):
    """The name exists, or the state does not allow it."""

    code = "conflict"
    status = 409


class PreconditionFailed(StokerError):
    """Nuclio's 412: for example scaling a function with minReplicas > 0 to zero."""

    code = "precondition_failed"
    status = 412


class BodyTooLarge(StokerError):
    """The body is larger than the function's ``maxRequestBodySize``."""

    code = "body_too_large"
    status = 413


class QueueFull(StokerError):
    """The function's waiting room is full; the newest request is turned away."""

    code = "queue_full"
    status = 429


class HeadersTooLarge(StokerError):
    """The request line or the headers are over the limit."""

    code = "headers_too_large"
    status = 431


class HandlerFailed(StokerError):
    """The handler raised, or returned what cannot be serialised."""

    code = "handler_failed"
    status = 500


class NotSupported(StokerError):
    """A route that the protocol has and Stoker has not."""

    code = "not_supported"
    status = 501


class NotSubmitted(NotSupported):
    """A job that nobody takes, by the one status whose reason MLRun's client tells its user.

    At any other it asks for the run, which was never made, and a schedule fails in silence.
    """

    status = 400


class WorkerLost(StokerError):
    """The worker died while it ran the request, and running it twice may not be safe."""

    code = "worker_lost"
    status = 502


class NoCapacity(StokerError):
    """Waited for a worker and none came in time: still waking, or all busy for too long."""

    code = "no_capacity"
    status = 503


class FunctionUnhealthy(StokerError):
    """It cannot start: build or ``init_context`` failed, a crash loop, lost GPUs."""

    code = "function_unhealthy"
    status = 503


class StoreUnavailable(StokerError):
    """Redis cannot be reached, or is not this home's."""

    code = "store_unavailable"
    status = 503


class RecordUnreadable(StoreUnavailable):
    """A record in Redis is not one that this version reads; trying again does not help."""

    code = "record_unreadable"
    status = 500


class ShuttingDown(StokerError):
    """The platform is stopping."""

    code = "shutting_down"
    status = 503


class InsufficientStorage(StokerError):
    """The disk of the home is full, or a device's memory cannot hold what was asked."""

    code = "insufficient_storage"
    status = 507
