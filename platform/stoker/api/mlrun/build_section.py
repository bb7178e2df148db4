"""The ``build`` of a compiled function: its code, and what must be installed for it."""

from __future__ import annotations

import ast
import base64
import binascii
import shlex
from collections.abc import Mapping
from typing import Any

from stoker.api.mlrun.function_object import FunctionObject, mapping, refuse
from stoker.api.mlrun.serving import WRAPPER
from stoker.api.mlrun.source_entry import DEFAULT_HANDLER, Entry, source_entry
from stoker.api.submit import Note

RUNTIME = "python:3.11"
_IMAGE = "image"
HOOK = "nuclio_init_hook"
"""What MLRun's client puts below the code of a serving function, and older clients do not."""
FOOTER = """

from mlrun.runtimes import nuclio_init_hook
import asyncio
import inspect


def init_context(context):
    nuclio_init_hook(context, globals(), "serving_v2")


async def handler(context, event):
    result = context.mlrun_handler(context, event)
    if asyncio.iscoroutine(result):
        return await result
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        return context.Response(body=result)
    return result
"""


def code_entry(
    function: FunctionObject, spec: dict[str, Any], credentials: Mapping[str, str]
) -> Entry:
    """Where the code is: inline, in an archive, or MLRun's own handler alone."""
    declared = str(function.spec.get("function_handler") or "")
    source = str(function.build.get("source") or "")
    base = mapping(spec, "build")
    inline = function.build.get("functionSourceCode") or base.get("functionSourceCode")
    if inline:
        return Entry(
            str(spec.get("handler") or declared or DEFAULT_HANDLER),
            {"functionSourceCode": _code(function, inline)},
        )
    if source:
        handler = declared or (WRAPPER if function.is_serving else DEFAULT_HANDLER)
        workdir = str(function.spec.get("workdir") or "")
        return source_entry(source, handler, workdir, credentials)
    if function.is_serving:
        return Entry(WRAPPER)
    if base.get("codeEntryType") == _IMAGE:
        refuse("spec.image", "is a whole function in an image, and there are no containers here")
    workdir = str(function.spec.get("workdir") or "")
    if workdir.startswith("/"):  # the project's code is mounted there
        return source_entry(workdir, declared, "", {})
    if not base.get("path"):
        refuse(
            "spec.build",
            "the function has no code: give a file (code_to_function, set_function, with_code) or "
            "a source archive (with_source_archive)",
        )
    return Entry(str(spec.get("handler") or declared or DEFAULT_HANDLER))


def _code(function: FunctionObject, inline: Any) -> str:
    """The code in base64, with MLRun's hooks below that of a graph; it must be Python.

    Raises:
        InvalidFunction: it is not, with the line that is wrong.
    """
    field_name = "spec.build.functionSourceCode"
    try:
        text = base64.b64decode(str(inline), validate=True).decode()
    except (binascii.Error, ValueError):
        refuse(field_name, "must be UTF-8 text in base64")
    if function.is_serving and HOOK not in text:
        text += FOOTER
        inline = base64.b64encode(text.encode()).decode()
    runtime = str(function.spec.get("nuclio_runtime") or RUNTIME)
    if runtime.startswith("python"):
        _must_be_python(text, field_name)
    return str(inline)


def _must_be_python(text: str, field_name: str) -> None:
    try:
        ast.parse(text)
    except SyntaxError as exc:
        line = (exc.text or "").strip()
        refuse(field_name, f"{type(exc).__name__} in line {exc.lineno}: {exc.msg}: {line}")
    except (ValueError, RecursionError, MemoryError) as exc:
        refuse(field_name, f"cannot be read as Python: {exc}")


def build_section(function: FunctionObject, base: dict[str, Any], entry: Entry) -> dict[str, Any]:
    """The whole section.

    Args:
        function: the function.
        base: the section of the config that it was made from.
        entry: where its code is.
    """
    declared = function.build
    build = {k: v for k, v in base.items() if k != "functionSourceCode"} | entry.fields
    if build.get("codeEntryType") == _IMAGE:
        del build["codeEntryType"]  # an image that mlrun starts a graph from
    commands = _texts(build.get("commands") or declared.get("commands"), "commands")
    build["commands"] = commands + _install(_texts(declared.get("requirements"), "requirements"))
    image = build.get("baseImage") or function.spec.get("image") or declared.get("base_image")
    if image:
        build["baseImage"] = image
    if function.spec.get("no_cache"):
        build["noCache"] = True
    if declared.get("extra_args"):
        build["flags"] = [str(declared["extra_args"])]
    return build


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value or [], list):
        refuse(f"spec.build.{name}", f"must be a list, was {type(value).__name__}")
    return [str(item) for item in value or []]


def _install(requirements: list[str]) -> list[str]:
    """One command for all: pip then finds versions that fit together."""
    words: list[str] = []
    for requirement in requirements:
        text = requirement.strip()
        for flag in ("--requirement", "-r"):
            if text.startswith(flag):
                words.append("-r")
                text = text.removeprefix(flag).strip()
                break
        words += [shlex.quote(text)] if text else []
    return [f"pip install {' '.join(words)}"] if words else []


def image_notes(function: FunctionObject) -> list[Note]:
    """What is said of an image, once."""
    image = function.spec.get("image") or function.build.get("base_image")
    if not image:
        return []
    text = (
        f"image {image} is kept and has no effect here: the function runs on this machine's "
        "Python, with the platform's packages and its own requirements"
    )
    return [("info", text)]
