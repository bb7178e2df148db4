"""Checks and cleans texts: the CPU step before the model."""

import html
import os
import re
import unicodedata
from html.parser import HTMLParser

BREAKING = frozenset({"p", "br", "div", "li", "tr", "td", "h1", "h2", "h3", "h4", "title"})
SILENT = frozenset({"script", "style"})
MARKUP = re.compile(r"<[a-zA-Z/!]|&\w+;|&#")


class BadInput(ValueError):
    """What the caller sent cannot be used; the message says why."""


class Stripper(HTMLParser):
    """Keeps the text of a page and drops its markup, scripts and styles."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts = []
        self.silent = 0

    def handle_starttag(self, tag, _attributes):
        """Opens a silent part, or breaks the line of words."""
        self.silent += tag in SILENT
        if tag in BREAKING:
            self.parts.append(" ")

    def handle_endtag(self, tag):
        """Closes what `handle_starttag` opened."""
        self.silent -= tag in SILENT and self.silent > 0
        if tag in BREAKING:
            self.parts.append(" ")

    def handle_data(self, data):
        """Keeps text outside silent parts."""
        if not self.silent:
            self.parts.append(data)


def init_context(context):
    context.user_data.max_characters = int(os.environ.get("MAX_CHARACTERS", "2000"))
    context.user_data.max_texts = int(os.environ.get("MAX_TEXTS", "64"))


def handler(context, event):
    limits = context.user_data
    try:
        texts = read_texts(event.body, limits.max_texts)
        return {"texts": [clean(text, limits.max_characters) for text in texts]}
    except BadInput as exc:
        return context.Response(
            body={"error": str(exc)}, content_type="application/json", status_code=400
        )


def read_texts(body, max_texts):
    """The texts of ``{"text": …}`` or ``{"texts": […]}``."""
    if not isinstance(body, dict) or len(body.keys() & {"text", "texts"}) != 1:
        raise BadInput('the body must be JSON: {"text": "…"} or {"texts": ["…", …]}')
    texts = [body["text"]] if "text" in body else body["texts"]
    if not isinstance(texts, list) or not 0 < len(texts) <= max_texts:
        raise BadInput(f"texts must be a list of 1 to {max_texts} strings")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadInput(f"text {index} must be a string, was {type(text).__name__}")
    return texts


def clean(text, max_characters):
    """One plain line: markup gone, unicode in one form, white space single, cut at a word."""
    if MARKUP.search(text):
        stripper = Stripper()
        stripper.feed(text)
        stripper.close()
        text = html.unescape("".join(stripper.parts))
    text = unicodedata.normalize("NFKC", text)
    text = "".join(" " if unicodedata.category(char) in ("Cc", "Cf") else char for char in text)
    text = " ".join(text.encode("utf-8", "ignore").decode().split())
    if not text:
        raise BadInput("a text must hold more than white space and markup")
    if len(text) > max_characters:
        text = text[:max_characters].rsplit(" ", 1)[0]
    return text
