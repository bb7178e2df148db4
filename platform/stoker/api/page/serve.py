"""Serves the page's files under a policy that runs nothing but them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_TYPES = {
    "dashboard.html": "text/html; charset=utf-8",
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
}


class Page:
    """``/`` and the two files that it loads."""

    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/", self.shell, methods=["GET"]),
            Route("/page/{file}", self.file, methods=["GET"]),
        ]

    async def shell(self, _request: Request) -> Response:
        """The page itself."""
        return _file("dashboard.html")

    async def file(self, request: Request) -> Response:
        """Its script or its style; nothing else can be named."""
        name = request.path_params["file"]
        if name not in _TYPES:
            return Response(status_code=404, headers=HEADERS)
        return _file(name)


def _file(name: str) -> Response:
    return Response(_content(name), media_type=_TYPES[name], headers=HEADERS)


@cache
def _content(name: str) -> bytes:
    return files("stoker.api.page").joinpath(name).read_bytes()
