"""Requests to the gateway, timed."""

import asyncio
import re
import time
from dataclasses import dataclass, field

import httpx

TIMEOUT_S = 120.0
_BUCKET = re.compile(r"stoker_batch_size_(bucket|count|sum)\{([^}]*)\} (\S+)")


@dataclass
class Reply:
    """One answer and what it took, in seconds."""

    status: int
    body: dict
    seconds: float
    cold: bool = False
    timing: str = ""

    @property
    def stages(self):
        """``Server-Timing`` as milliseconds by stage."""
        return {k: float(v) for k, v in re.findall(r"(\w+);dur=([\d.]+)", self.timing)}


@dataclass
class Batches:
    """How many requests ran in batches of which size, since some moment."""

    counts: dict = field(default_factory=dict)
    total: float = 0.0
    sizes: float = 0.0

    @property
    def mean(self):
        """Mean batch size that a request saw."""
        return self.sizes / self.total if self.total else 0.0

    def since(self, earlier):
        """What came after ``earlier``."""
        counts = {k: v - earlier.counts.get(k, 0) for k, v in self.counts.items()}
        return Batches(counts, self.total - earlier.total, self.sizes - earlier.sizes)


class Client:
    """A caller of one platform's functions."""

    def __init__(self, gateway):
        self.gateway = gateway

    def ask(self, function, body):
        """One request, on a connection of its own."""
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
            started = time.perf_counter()
            response = client.post(f"{self.gateway}/{function}", json=body)
            return _reply(response, time.perf_counter() - started)

    def one_by_one(self, function, bodies):
        """The requests one after the other on one connection."""
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
            replies = []
            for body in bodies:
                started = time.perf_counter()
                response = client.post(f"{self.gateway}/{function}", json=body)
                replies.append(_reply(response, time.perf_counter() - started))
            return replies

    def at_once(self, function, bodies):
        """The requests all at the same time."""
        return asyncio.run(self._at_once(function, bodies))

    async def _at_once(self, function, bodies):
        limits = httpx.Limits(max_connections=len(bodies))
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, limits=limits) as client:

            async def ask(body):
                started = time.perf_counter()
                response = await client.post(f"{self.gateway}/{function}", json=body)
                return _reply(response, time.perf_counter() - started)

            return list(await asyncio.gather(*map(ask, bodies)))

    def batches(self, function):
        """The batch sizes that the function's requests ran in so far, from /metrics."""
        text = httpx.get(f"{self.gateway}/metrics", timeout=TIMEOUT_S, trust_env=False).text
        cumulative, seen = {}, Batches()
        for kind, labels, value in _BUCKET.findall(text):
            if f'function="{function}"' not in labels:
                continue
            if kind == "bucket":
                bound = float(re.search(r'le="([^"]+)"', labels)[1])
                cumulative[bound] = cumulative.get(bound, 0) + float(value)
            elif kind == "count":
                seen.total += float(value)
            else:
                seen.sizes += float(value)
        below = 0.0
        for bound in sorted(cumulative):
            seen.counts[bound] = cumulative[bound] - below
            below = cumulative[bound]
        return seen


def _reply(response, seconds):
    kind = response.headers.get("content-type", "")
    body = response.json() if kind.startswith("application/json") else {"text": response.text}
    headers = response.headers
    cold = headers.get("x-stoker-cold") == "1"
    return Reply(response.status_code, body, seconds, cold, headers.get("server-timing", ""))
