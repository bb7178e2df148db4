"""Text that can be written down, whatever the names of somebody's files are."""

from __future__ import annotations


def encodable(text: str) -> str:
    r"""The text with what is no Unicode as escapes: bytes of a file's name that are not UTF-8.

    >>> encodable("caf\udce9.py"), encodable("café.py")
    ('caf\\udce9.py', 'café.py')
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
