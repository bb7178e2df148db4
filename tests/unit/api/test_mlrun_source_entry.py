"""Where a function's code comes from, when it is not in the function itself."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from stoker.api.mlrun.function_secrets import masked_function, restored_function
from stoker.api.mlrun.source_entry import source_entry
from stoker.nouns.errors import InvalidFunction
from stoker.nouns.secrecy import masked


def entry(source: str, **given: Any) -> dict[str, Any]:
    return source_entry(
        source, given.get("handler", ""), given.get("workdir", ""), given.get("credentials", {})
    ).fields


@pytest.mark.parametrize(
    ("source", "path", "attributes"),
    [
        ("git://github.com/o/r#main", "https://github.com/o/r", {"branch": "main"}),
        (
            "git://github.com/o/r.git#refs/heads/x",
            "https://github.com/o/r.git",
            {"reference": "refs/heads/x"},
        ),
        ("git:///srv/r.git#main", "file:///srv/r.git", {"branch": "main"}),
        ("git+ssh://git@h/r#main", "ssh://git@h/r", {"branch": "main"}),
        ("https://h/r.git#main", "https://h/r.git", {"branch": "main"}),
        ("/srv/r.git#main", "file:///srv/r.git", {"branch": "main"}),
    ],
)
def test_repositories(source: str, path: str, attributes: dict[str, Any]) -> None:
    assert entry(source) == {
        "path": path,
        "codeEntryType": "git",
        "codeEntryAttributes": attributes,
    }


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("https://h/a.zip", "https://h/a.zip"),
        ("http://h/a.tar.gz?x=1", "http://h/a.tar.gz?x=1"),
        ("file:///srv/a.tgz", "file:///srv/a.tgz"),
        ("/srv/a.zip", "file:///srv/a.zip"),
    ],
)
def test_archives(source: str, path: str) -> None:
    assert entry(source, workdir="sub") == {
        "path": path,
        "codeEntryType": "archive",
        "codeEntryAttributes": {"workDir": "sub"},
    }


def test_a_folder_or_a_file_of_this_machine_is_taken_as_it_is() -> None:
    assert entry("/srv/code", workdir="sub") == {"path": "/srv/code/sub"}
    assert entry("/srv/main.py") == {"path": "/srv/main.py"}


@pytest.mark.parametrize(
    ("handler", "workdir", "expected"),
    [
        ("a/b#main:go", "", ("a/b", "main:go")),
        ("a/b#main:go", "c", ("c", "main:go")),
        ("main", "", (None, "main:handler")),
        ("", "", (None, "main:handler")),
    ],
)
def test_the_handler_may_say_in_which_folder_it_is(
    handler: str, workdir: str, expected: tuple[str | None, str]
) -> None:
    found = source_entry("https://h/a.zip", handler, workdir, {})
    assert (found.fields["codeEntryAttributes"].get("workDir"), found.handler) == expected


def test_a_token_or_a_password_goes_with_the_repository() -> None:
    url = "git://h/r#main"
    by_token = entry(url, credentials={"GIT_TOKEN": "t", "GIT_USERNAME": "u", "GIT_PASSWORD": "p"})
    assert by_token["codeEntryAttributes"] == {
        "branch": "main",
        "username": "oauth2",
        "password": "t",
    }
    by_password = entry(url, credentials={"GIT_USERNAME": "u", "GIT_PASSWORD": "p"})
    assert by_password["codeEntryAttributes"]["username"] == "u"
    assert "password" not in entry(url)["codeEntryAttributes"]


@pytest.mark.parametrize(
    ("url", "credentials", "login"),
    [
        ("git://me:hu%40sh@h/r.git#main", {}, ("me", "hu@sh")),
        ("git://hush@h/r.git#main", {}, ("oauth2", "hush")),
        ("git+https://me:hush@h/r.git#main", {"GIT_PASSWORD": "p"}, ("me", "hush")),
        ("https://me@h/r.git#main", {"GIT_PASSWORD": "p"}, ("me", "p")),
        ("https://me:hush@h/r.git#main", {"GIT_TOKEN": "t"}, ("oauth2", "t")),
    ],
)
def test_credentials_in_a_repository_s_url_leave_it(
    url: str, credentials: dict[str, str], login: tuple[str, str]
) -> None:
    found = entry(url, credentials=credentials)
    assert found["path"] == "https://h/r.git"
    user, password = login
    assert found["codeEntryAttributes"] == {
        "branch": "main",
        "username": user,
        "password": password,
    }


def test_credentials_in_an_archive_s_url_become_a_header_that_no_listing_shows() -> None:
    found = entry("https://me:hush@h/a.zip")
    assert found["path"] == "https://h/a.zip"
    pair = base64.b64encode(b"me:hush").decode()
    assert found["codeEntryAttributes"] == {"headers": {"Authorization": f"Basic {pair}"}}
    assert pair not in json.dumps(masked({"spec": {"build": found}}))


def test_a_refused_source_is_named_without_its_token() -> None:
    with pytest.raises(InvalidFunction, match="must name an archive") as refusal:
        entry("https://me:hush@h/page")
    assert "hush" not in refusal.value.message


def test_a_function_s_source_is_listed_without_its_token_and_deployed_again_from_there() -> None:
    stored = {"metadata": {"name": "f"}, "spec": {"build": {"source": "git://me:hush@h/r#main"}}}
    shown = masked_function(stored)
    assert "hush" not in json.dumps(shown)
    assert "h/r#main" in shown["spec"]["build"]["source"]
    assert restored_function(shown, stored) == stored


def test_a_repository_without_a_branch_is_taken_with_a_warning() -> None:
    found = source_entry("git://h/r", "", "", {})
    assert found.fields["codeEntryAttributes"] == {}
    ((level, text),) = found.notes
    assert level == "warn"
    assert "names no branch" in text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("s3://b/a.zip", "s3:// is not read here"),
        ("v3io:///c/a.zip", "v3io:// is not read here"),
        ("store://artifacts/p/a", "store:// is not read here"),
        ("./a.zip", "must be a URL or an absolute path"),
        ("https://h/page", "must name an archive"),
    ],
)
def test_what_is_not_fetched_is_refused(source: str, words: str) -> None:
    with pytest.raises(InvalidFunction, match=f"spec.build.source: {words}"):
        entry(source)
