"""An archive (zip or tar) by http(s) or from a file, unpacked where nothing of it leads outside."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx

from stoker.nouns.errors import BadRequest
from stoker.nouns.quantity import format_bytes
from stoker.nouns.secrecy import url_for_people

LARGEST_BYTES = 1024**3
"""Of an archive as it is fetched."""
LARGEST_UNPACKED_BYTES = 4 * 1024**3
MOST_MEMBERS = 100_000
_CHUNK = 1024 * 1024
_TIMEOUT = httpx.Timeout(30.0, read=60.0)
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


def fetch_archive(
    url: str, headers: Mapping[str, str], folder: Path, stopped: threading.Event
) -> None:
    """Fetches and unpacks an archive into ``folder``. Takes as long as the network does.

    Args:
        url: http, https or file.
        headers: sent along.
        folder: where to; it exists and is empty.
        stopped: once set, the work ends at the next piece.

    Raises:
        BadRequest: it cannot be fetched, is no archive, is too large, or would write outside.
        OSError: the disk is full.
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        path = Path(url2pathname(urlsplit(url).path))
        if not path.is_file():
            raise BadRequest(f"the archive {path} does not exist on the platform's machine")
        _unpack(path, folder, url, stopped)
        return
    if scheme not in ("http", "https"):
        raise BadRequest(f"an archive is read by http, https or file, was {url_for_people(url)!r}")
    download = folder.with_name(f"{folder.name}.archive")
    try:
        _download(url, headers, download, stopped)
        _unpack(download, folder, url, stopped)
    finally:
        download.unlink(missing_ok=True)


def _download(url: str, headers: Mapping[str, str], target: Path, stopped: threading.Event) -> None:
    shown = url_for_people(url)
    try:
        with (
            httpx.stream(
                "GET", url, headers=dict(headers), follow_redirects=True, timeout=_TIMEOUT
            ) as answer,
            target.open("wb") as file,
        ):
            if answer.status_code != httpx.codes.OK:
                raise BadRequest(f"the archive {shown} was answered with {answer.status_code}")
            seen = 0
            for chunk in answer.iter_bytes(_CHUNK):
                _go_on(stopped)
                seen += len(chunk)
                if seen > LARGEST_BYTES:
                    raise BadRequest(f"the archive {shown} is over {format_bytes(LARGEST_BYTES)}")
                file.write(chunk)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise BadRequest(f"the archive {shown} cannot be fetched: {exc!r}") from exc


def _unpack(archive: Path, folder: Path, url: str, stopped: threading.Event) -> None:
    shown = url_for_people(url)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                _unpack_zip(zipped, folder, stopped)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tarred:
                _unpack_tar(tarred, folder, stopped)
        else:
            raise BadRequest(f"{shown} is neither a zip nor a tar archive")
    except (*_BROKEN, NotImplementedError, RuntimeError) as exc:
        raise BadRequest(f"the archive {shown} cannot be unpacked: {exc}") from exc


def _unpack_zip(zipped: zipfile.ZipFile, folder: Path, stopped: threading.Event) -> None:
    members = zipped.infolist()
    _check_size(len(members), sum(member.file_size for member in members))
    for member in members:
        _go_on(stopped)
        target = folder / _inside(member.filename)
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipped.open(member) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file, _CHUNK)


def _unpack_tar(tarred: tarfile.TarFile, folder: Path, stopped: threading.Event) -> None:
    count, size = 0, 0
    for member in tarred:
        _go_on(stopped)
        count, size = count + 1, size + member.size
        _check_size(count, size)
        _inside(member.name)
        # Links that lead outside, devices and the like are refused by the filter.
        tarred.extract(member, folder, filter="data")


def _inside(name: str) -> PurePosixPath:
    """A member's path, which must stay in the archive's own folder.

    Raises:
        BadRequest: it does not.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise BadRequest(f"the archive has a member outside its own folder: {name!r}")
    return path


def _check_size(members: int, size: int) -> None:
    if members > MOST_MEMBERS or size > LARGEST_UNPACKED_BYTES:
        raise BadRequest(
            f"the archive has over {MOST_MEMBERS} members, or unpacks to over "
            f"{format_bytes(LARGEST_UNPACKED_BYTES)}"
        )


def _go_on(stopped: threading.Event) -> None:
    if stopped.is_set():
        raise BadRequest("the build was stopped")
