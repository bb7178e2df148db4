"""Where a function's code comes from, as Nuclio's build says it: a folder, an archive, git."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from stoker.api.mlrun.function_object import refuse
from stoker.api.submit import Note
from stoker.nouns.secrecy import url_for_people
from stoker.nouns.source_url import TOKEN_USER, SourceUrl, basic_authorization, read_source_url

DEFAULT_HANDLER = "main:handler"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_FIELD = "spec.build.source"
_GIT = ("git://", "git+")
_NOT_FETCHED = {
    "s3": "give it by http(s)://, file:// or git://",
    "v3io": "give it by http(s)://, file:// or git://",
    "v3ios": "give it by http(s)://, file:// or git://",
    "store": "give the artifact's own URL",
    "db": "give the artifact's own URL",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """The part of Nuclio's ``build`` that says where the code is.

    Attributes:
        handler: ``module:function``, inside ``workDir`` when there is one.
        fields: of ``build``.
        notes: what the user should know.
    """

    handler: str
    fields: dict[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


def handler_parts(handler: str) -> tuple[str, str]:
    """The folder inside the source, and the handler in it.

    >>> handler_parts("a/b#main:go"), handler_parts("main"), handler_parts("")
    (('a/b', 'main:go'), ('', 'main:handler'), ('', 'main:handler'))
    """
    folder, _, name = handler.rpartition("#")
    if not name:
        return folder, DEFAULT_HANDLER
    return folder, name if ":" in name else f"{name}:handler"


def source_entry(source: str, handler: str, workdir: str, credentials: Mapping[str, str]) -> Entry:
    """The build of a function whose code is an archive, a repository or a folder.

    Args:
        source: ``git://host/repository#branch``, an http(s) or file URL, or an absolute path.
        handler: MLRun's ``function_handler``, perhaps with a folder before ``#``.
        workdir: the folder inside the source that holds the code; wins over the handler's.
        credentials: what the deploy was given for its build, and the project's secrets.

    Raises:
        InvalidFunction: nothing is fetched from there.
    """
    folder, own = handler_parts(handler)
    attributes: dict[str, Any] = {"workDir": found} if (found := workdir or folder) else {}
    scheme = urlsplit(source).scheme.lower()
    if scheme in _NOT_FETCHED:
        refuse(_FIELD, f"{scheme}:// is not read here: {_NOT_FETCHED[scheme]}")
    if source.startswith(_GIT) or _repository(source).endswith(".git"):
        return _git(source, own, attributes, credentials)
    if scheme in ("http", "https", "file"):
        _must_be_archive(source, urlsplit(source).path)
        return _remote_archive(source, own, attributes)
    if not source.startswith("/"):
        refuse(
            _FIELD,
            "must be a URL or an absolute path on the platform's machine, was "
            f"{url_for_people(source)!r}",
        )
    if source.endswith(ARCHIVES):
        fields = {
            "path": f"file://{source}",
            "codeEntryType": "archive",
            "codeEntryAttributes": attributes,
        }
        return Entry(own, fields)
    return Entry(own, {"path": "/".join([source.rstrip("/"), *attributes.values()])})


def _must_be_archive(source: str, path: str) -> None:
    if not path.endswith(ARCHIVES):
        kinds = ", ".join(ARCHIVES)
        refuse(
            _FIELD,
            f"must name an archive ({kinds}) or a repository, was {url_for_people(source)!r}",
        )


def _remote_archive(source: str, handler: str, attributes: dict[str, Any]) -> Entry:
    """Credentials leave the URL, which is shown: a header carries them to that host alone."""
    url = read_source_url(source)
    if url.password or url.user:
        attributes["headers"] = {"Authorization": basic_authorization(url.user, url.password)}
    return Entry(
        handler,
        {"path": url.bare, "codeEntryType": "archive", "codeEntryAttributes": attributes},
    )


def _repository(source: str) -> str:
    return source.partition("#")[0].rstrip("/")


def _git(
    source: str, handler: str, attributes: dict[str, Any], credentials: Mapping[str, str]
) -> Entry:
    url, _, reference = source.partition("#")
    found = read_source_url(url)
    if reference:
        attributes["reference" if reference.startswith("refs/") else "branch"] = reference
    token = credentials.get("GIT_TOKEN")
    user, password = (TOKEN_USER, token) if token else _login(found, credentials)
    if password:
        attributes |= {"username": user, "password": password}
    notes = () if reference else (_NO_BRANCH,)
    fields = {
        "path": _git_url(found.bare),
        "codeEntryType": "git",
        "codeEntryAttributes": attributes,
    }
    return Entry(handler, fields, notes)


def _login(url: SourceUrl, credentials: Mapping[str, str]) -> tuple[str, str]:
    """Name and password, those in the URL first, as in mlrun's own clone."""
    user, password = credentials.get("GIT_USERNAME", ""), credentials.get("GIT_PASSWORD", "")
    if url.password or not password:
        return url.login if url.login[1] else (user, password)
    return url.user or user, password


_NO_BRANCH = (
    "warn",
    "the git source names no branch: its default branch is taken here, a real MLRun server refuses "
    "it; write git://…#<branch>",
)


def _git_url(url: str) -> str:
    """``git://`` stands for https, as on MLRun's server; without a host, for a local repository.

    >>> _git_url("git://github.com/org/repo"), _git_url("git:///srv/repo.git")
    ('https://github.com/org/repo', 'file:///srv/repo.git')
    """
    if url.startswith("git:///"):
        return "file://" + url.removeprefix("git://")
    if url.startswith("git://"):
        return "https://" + url.removeprefix("git://")
    if url.startswith("/"):
        return f"file://{url}"
    return url.removeprefix("git+")
