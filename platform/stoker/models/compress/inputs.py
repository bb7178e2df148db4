"""What a compressed model is made of besides its original: texts, and perhaps another model."""

from __future__ import annotations

from stoker.models.compress import lessons
from stoker.models.source import Source, find
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import ModelSettings


def digest(settings: ModelSettings) -> str:
    """Names their content; empty, where there are none. Reads it all.

    Raises:
        UnusableModel: something is not there.
    """
    if not settings.distill:
        return ""
    other = student(settings)
    return lessons.read(settings.distill_data).digest + (other.digest() if other else "")


def stamp(settings: ModelSettings) -> str:
    """Changes when they are written, and is cheap; empty, where there are none to be seen now.

    What was taught stays so when the texts are deleted: a wake must not fail for want of them.
    """
    if not settings.distill:
        return ""
    try:
        facts = lessons.path_of(settings.distill_data).stat()
        other = student(settings, local=True)
    except (OSError, UnusableModel):
        return ""
    return f"{facts.st_size} {facts.st_mtime_ns} {other.stamp if other else ''}"


def student(settings: ModelSettings, *, local: bool = False) -> Source | None:
    """The other model that is taught; none, if it is the original that was pruned.

    Raises:
        UnusableModel: it is not there.
    """
    if not settings.distill_student:
        return None
    try:
        return find(settings.distill_student, local=local)
    except UnusableModel as exc:
        text = exc.message.replace("STOKER_MODEL", "STOKER_DISTILL_STUDENT")
        raise UnusableModel(text) from exc
