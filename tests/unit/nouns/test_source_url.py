"""Credentials inside the URL of a code source."""

from __future__ import annotations

import doctest

import pytest

from stoker.nouns import source_url
from stoker.nouns.source_url import SourceUrl, read_source_url, url_secret, with_url_secret


@pytest.mark.parametrize(
    ("url", "read", "secret"),
    [
        ("https://h/r.git", SourceUrl("https://h/r.git"), ""),
        ("https://h/a@1.zip?x=u:p@v", SourceUrl("https://h/a@1.zip?x=u:p@v"), ""),
        ("/srv/a@b.git", SourceUrl("/srv/a@b.git"), ""),
        ("git:///srv/r.git#a@b", SourceUrl("git:///srv/r.git#a@b"), ""),
        ("git@h:o/r.git", SourceUrl("git@h:o/r.git"), ""),
        ("https://me:hu%40sh@h:8/r#b", SourceUrl("https://h:8/r#b", "me", "hu@sh"), "hu%40sh"),
        ("git://hush@h/r#b", SourceUrl("git://h/r#b", "hush", "", "hush"), "hush"),
        ("https://hush:@h/r", SourceUrl("https://h/r", "hush", "", "hush"), "hush"),
        # As GitHub's manual writes a token.
        ("https://hush:x-oauth-basic@h/r", SourceUrl("https://h/r", "hush", "", "hush"), "hush"),
        ("git+ssh://git@h/r", SourceUrl("git+ssh://git@h/r"), ""),
        ("ssh://git:hush@h/r", SourceUrl("ssh://git@h/r"), "hush"),
    ],
)
def test_credentials_are_taken_out_of_a_url(url: str, read: SourceUrl, secret: str) -> None:
    assert read_source_url(url) == read
    assert url_secret(url) == secret
    if secret:
        assert url_secret(with_url_secret(url, "****")) == "****"
        assert with_url_secret(with_url_secret(url, "****"), secret).replace(":@", "@") == (
            url.replace(":@", "@")
        )


def test_a_token_is_sent_as_hosts_of_git_expect_it() -> None:
    assert read_source_url("https://hush@h/r").login == ("oauth2", "hush")
    assert read_source_url("https://me:hush@h/r").login == ("me", "hush")
    assert read_source_url("https://h/r").login == ("", "")


def test_the_examples_of_source_urls_hold() -> None:
    assert doctest.testmod(source_url).failed == 0
