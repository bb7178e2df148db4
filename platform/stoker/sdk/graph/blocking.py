"""What mlrun's steps take for a requests session, in graphs whose engine is sync."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import requests
from urllib3.exceptions import MaxRetryError
from urllib3.util.retry import Retry

from stoker.nouns.errors import StokerError
from stoker.sdk.graph.request import Place, Request, local_request, place
from stoker.sdk.graph.running import BOUNDS
from stoker.sdk.graph.session import REDIRECTS, Neighbours, redirected, refusal, timed_out, with_key


class Response:
    """As much of a requests response as mlrun's steps look at."""

    __slots__ = ("content", "headers", "status_code")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status_code = status
        self.headers = headers
        self.content = body

    @property
    def ok(self) -> bool:
        """No failure."""
        return self.status_code < 400

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")


class BlockingSession:
    """Takes requests as mlrun's session does, and gives those for elsewhere to a real one.

    Args:
        neighbours: reaches the functions of this home.
        gateway: where their URLs lead.
        agent: the ``User-Agent`` of that session.
        retry: after which answers a request is sent again, and when; None: never.
        elsewhere: makes that session.
    """

    def __init__(
        self,
        neighbours: Neighbours,
        gateway: Place,
        agent: str,
        retry: Retry | None,
        elsewhere: Callable[[], requests.Session],
    ) -> None:
        self._neighbours = neighbours
        self._gateway = gateway
        self._agent = agent
        self._retry = retry
        self._make_session = elsewhere
        self._http: requests.Session | None = None

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        data: str | bytes | None,
        timeout: float | None,
        **options: Any,
    ) -> Any:
        """A `Response`, or requests'.

        Raises:
            requests.exceptions.ReadTimeout: no answer within ``timeout`` seconds.
            requests.exceptions.RequestException: from elsewhere.
        """
        for _ in range(REDIRECTS):
            key = self._neighbours.gateway_key
            sent = {**headers, "User-Agent": self._agent}
            request = local_request(method, url, sent, data, gateway=self._gateway, key=key)
            if request is None:
                own = {"headers": self._with_key(url, headers), "data": data, "timeout": timeout}
                return self._session().request(method, url, **own, **options)
            response = self._retried(request, url, timeout)
            onward = redirected(response.status_code, response.headers, method, url)
            if onward is None:
                return response
            if onward[0] != method:
                data = None
            method, url = onward
        raise requests.exceptions.TooManyRedirects(f"Exceeded {REDIRECTS} redirects.")

    def _retried(self, request: Request, url: str, timeout: float | None) -> Response:
        retry = self._retry
        while True:
            response = self._call(request, url, timeout)
            patient = "retry-after" in response.headers
            if retry is None or not retry.is_retry(request.method, response.status_code, patient):
                return response
            seen = _as_urllib3(response)
            try:
                retry = retry.increment(request.method, url, response=seen)
            except MaxRetryError:
                return response
            if _too_late(retry.get_backoff_time()):
                return response
            retry.sleep(seen)

    def _call(self, request: Request, url: str, timeout: float | None) -> Response:
        request_id, deadline, *_ = BOUNDS.get()
        began = time.monotonic()
        try:
            answer = self._neighbours.call_blocking(
                *request, timeout=timeout, deadline=deadline, request_id=request_id
            )
        except StokerError as error:
            if timed_out(error, began, timeout):
                text = f"{url}: Read timed out. (read timeout={timeout})"
                raise requests.exceptions.ReadTimeout(text) from error
            answer = refusal(error, request_id)
        return Response(*answer)

    def _with_key(self, url: str, headers: dict[str, str]) -> dict[str, str]:
        there, key = place(url), self._neighbours.gateway_key
        if not key or there is None or there[:2] != self._gateway[:2]:
            return headers
        return with_key(headers, key)

    def _session(self) -> requests.Session:
        if self._http is None:
            self._http = self._make_session()
        return self._http


def _too_late(seconds: float) -> bool:
    """Whether the request will be over by then."""
    deadline = BOUNDS.get().deadline
    return deadline is not None and time.monotonic() + seconds >= deadline


def _as_urllib3(response: Response) -> Any:
    """What urllib3's rules for retries look at."""
    headers = requests.structures.CaseInsensitiveDict(response.headers)
    return SimpleNamespace(
        status=response.status_code, headers=headers, get_redirect_location=lambda: False
    )
