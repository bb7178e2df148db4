"""Names, passwords and tokens inside the URL of a code source: taken out of it, or masked in it."""

from __future__ import annotations

import base64
import re
from typing import NamedTuple
from urllib.parse import unquote

TOKEN_USER = "oauth2"  # noqa: S105  # the user that git's hosts expect beside a token
_NO_PASSWORDS = frozenset({"", "x-oauth-basic"})
"""With these, what stands as the user is a token, as GitHub's manual writes it."""
_AUTHORITY_ENDS = re.compile(r"[/?#]")


class SourceUrl(NamedTuple):
    """A URL and what stood in it.

    Attributes:
        bare: the URL without; that of ssh keeps its user, who is no secret.
        user: the name, decoded; empty without one.
        password: decoded; empty without one.
        token: what stood as the user and is a token, unless a password for it is known elsewhere.
    """

    bare: str
    user: str = ""
    password: str = ""
    token: str = ""

    @property
    def login(self) -> tuple[str, str]:
        """User and password to send; empty ones when there are none."""
        return (TOKEN_USER, self.token) if self.token else (self.user, self.password)


def read_source_url(url: str) -> SourceUrl:
    """Takes the credentials out of a URL.

    >>> read_source_url("https://me:hush%21@h/r.git#main")
    SourceUrl(bare='https://h/r.git#main', user='me', password='hush!', token='')
    >>> read_source_url("git://hush@h/r").login, read_source_url("ssh://git@h/r").bare
    (('oauth2', 'hush'), 'ssh://git@h/r')
    """
    before, user, password, after = _parts(url)
    if _is_ssh(url):
        return SourceUrl(f"{before}{user}@{after}" if user else before + after)
    is_token = password in _NO_PASSWORDS
    return SourceUrl(
        before + after,
        unquote(user),
        "" if is_token else unquote(password),
        unquote(user) if is_token else "",
    )


def basic_authorization(user: str, password: str) -> str:
    """The value of the header ``Authorization`` that carries both."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def url_secret(url: str) -> str:
    """What must not be shown of a URL, as it stands there; empty when there is nothing."""
    _, user, password, _ = _parts(url)
    if password not in _NO_PASSWORDS:
        return password
    return "" if _is_ssh(url) else user


def with_url_secret(url: str, secret: str) -> str:
    """The URL with another text in the place of its secret.

    >>> with_url_secret("https://me:hush@h/r", "***"), with_url_secret("https://hush@h/r", "***")
    ('https://me:***@h/r', 'https://***@h/r')
    """
    before, user, password, after = _parts(url)
    if password not in _NO_PASSWORDS:
        return f"{before}{user}:{secret}@{after}"
    return f"{before}{secret}{':' if password else ''}{password}@{after}"


def _is_ssh(url: str) -> bool:
    return url.partition("://")[0].lower().endswith("ssh")


def _parts(url: str) -> tuple[str, str, str, str]:
    """What is before the user, the user, the password, what is behind the ``@``."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url, "", "", ""
    end = _AUTHORITY_ENDS.search(rest)
    size = end.start() if end else len(rest)
    given, _, host = rest[:size].rpartition("@")
    user, _, password = given.partition(":")
    return scheme + mark, user, password, host + rest[size:]
