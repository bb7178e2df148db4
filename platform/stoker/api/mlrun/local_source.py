"""Code that a function names by a file instead of carrying it (``embed_code=False``)."""

from __future__ import annotations

import base64
from pathlib import Path

from stoker.api.mlrun.function_object import FunctionObject, refuse

LARGEST_BYTES = 16 * 1024 * 1024
_FIELD = "spec.source"


def with_local_code(function: FunctionObject) -> FunctionObject:
    """The function with the code of its file in it; as it is when it has code, or names no file.

    Reads the file, which must be on the platform's machine.

    Raises:
        InvalidFunction: there is no such file here, or it is no code.
    """
    source = str(function.spec.get("source") or "")
    if not source or function.build.get("functionSourceCode") or function.build.get("source"):
        return function
    path = Path(source.removeprefix("file://")).expanduser()
    if "://" in str(path) or not path.is_absolute():
        refuse(_FIELD, f"must be an absolute path on the platform's machine, was {source!r}")
    if not path.is_file() or path.suffix != ".py":
        refuse(_FIELD, f"must be a Python file that is there, was {source!r}")
    if path.stat().st_size > LARGEST_BYTES:
        refuse(_FIELD, f"must be at most {LARGEST_BYTES} bytes")
    code = base64.b64encode(path.read_bytes()).decode()
    build = function.build | {"functionSourceCode": code}
    return FunctionObject(function.document | {"spec": function.spec | {"build": build}})
