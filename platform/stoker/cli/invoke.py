"""``stoker invoke``: one request to a function, its answer to stdout as it comes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import quote

from stoker.cli.client import LONG_S, Client, Platform, data_key
from stoker.cli.failure import EXIT_FAILED, Failure

_CHUNK = 65536
_PRINTABLE = "".join(map(chr, range(33, 127)))
"""What a path may hold as it is; the rest is quoted, as browsers do."""


def invoke(
    name: str,
    home: str | None,
    *,
    path: str,
    data: str | None,
    method: str,
    headers: list[str],
    show_head: bool,
) -> int:
    """Sends the request; the exit status is 1 when the answer is an error.

    Raises:
        Failure: the data cannot be read, or nobody answers.
    """
    body = read_data(data)
    sent = _headers(headers)
    if body is not None:
        sent.setdefault("Content-Type", guess_type(body))
    verb = method.upper() or ("GET" if body is None else "POST")
    client = Client(_data_port(name, home), key=data_key())
    # What is quoted already stays as it is.
    route = quote(f"/{name}/{path.lstrip('/')}", safe=_PRINTABLE)
    out = sys.stdout.buffer
    with client.open(verb, route, body, sent, timeout_s=LONG_S) as response:
        if show_head:
            out.write(f"HTTP/1.1 {response.status} {response.reason}\r\n".encode())
            out.write(
                b"".join(f"{k}: {v}\r\n".encode() for k, v in response.getheaders()) + b"\r\n"
            )
        last = b""
        while chunk := response.read1(_CHUNK):
            out.write(chunk)
            out.flush()
            last = chunk
    if sys.stdout.isatty() and not last.endswith(b"\n"):
        out.write(b"\n")
    out.flush()
    return EXIT_FAILED if response.status >= 400 else 0


def read_data(data: str | None) -> bytes | None:
    """The body: the text itself, ``@file``, or ``-`` for stdin.

    Raises:
        Failure: the file cannot be read.
    """
    if data is None:
        return None
    if data == "-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_bytes()
        except OSError as exc:
            raise Failure(f"the data cannot be read: {exc}") from exc
    return data.encode()


def guess_type(body: bytes) -> str:
    """``application/json`` for what parses as an object or a list, else text or bytes."""
    try:
        if isinstance(json.loads(body), (dict, list)):
            return "application/json"
    except ValueError:
        pass
    try:
        body.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if not colon or not key.strip():
            raise Failure(f'a header must be like "Name: value", was {line!r}', exit_code=2)
        headers[key.strip().title()] = value.strip()
    return headers


def _data_port(name: str, home: str | None) -> str:
    """Known from the home, which works while the control port is away; else asked for."""
    platform = Platform.find(home)
    if platform.gateway_url:
        return platform.gateway_url
    answer = Client.control(home).send("GET", f"/api/functions/{quote(name, safe='')}")
    address = str(answer.json()["status"]["externalInvocationUrls"][0])
    return f"http://{address.partition('/')[0]}"
