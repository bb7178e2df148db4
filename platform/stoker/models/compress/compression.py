"""What a declaration of `stoker.nouns.compression` needs, may not have, and should be told."""

from __future__ import annotations

from stoker.nouns.compression import Teaching
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import ModelSettings, Task

_TAUGHT = {
    Task.FEATURE_EXTRACTION: Teaching.FEATURES,
    Task.TEXT_CLASSIFICATION: Teaching.SOFT_LABELS,
    Task.TOKEN_CLASSIFICATION: Teaching.SOFT_LABELS,
    Task.FILL_MASK: Teaching.SOFT_LABELS,
    Task.TEXT_GENERATION: Teaching.SOFT_LABELS,
}
_ONE_BY_ONE = (
    "zeros take as many bytes as other weights, and as much time: 'magnitude' in STOKER_PRUNE "
    "makes a model neither smaller nor faster, only sparse"
)
_PAIRS = (
    "'2:4' in STOKER_PRUNE makes a model faster only on cards, by kernels that skip the zeros; "
    "Stoker computes it like any other, in as many bytes"
)


def facts(settings: ModelSettings) -> list[str]:
    """What names the result, whatever the files behind it hold; nothing, where nothing is done."""
    if not (settings.prune or settings.distill):
        return []
    return [
        str(settings.prune or ""), str(settings.distill or ""), settings.distill_data,
        settings.distill_student,
    ]  # fmt: skip


def libraries(settings: ModelSettings) -> tuple[str, ...]:
    """Those that have a part in the result besides those that quantize."""
    return ("torchao",) if settings.prune and settings.prune.two_of_four else ()


def notices(settings: ModelSettings) -> tuple[str, ...]:
    """What the user should know, a line each."""
    if not settings.prune:
        return ()
    found = [_ONE_BY_ONE] if settings.prune.amount else []
    return (*found, *([_PAIRS] if settings.prune.two_of_four else []))


def check(settings: ModelSettings) -> None:
    """Refuses variables that would do nothing, or something else than they say.

    Raises:
        UnusableModel: naming the variable, and what it needs.
    """
    _check_distillation(settings)
    layers = settings.prune is not None and settings.prune.shortens
    if settings.adapters and (layers or settings.distill):
        raise UnusableModel(
            "STOKER_ADAPTER: adapters were made for the layers of the whole model, and do not fit "
            "what STOKER_PRUNE and STOKER_DISTILL leave of it; merge them into the model first"
        )


def _check_distillation(settings: ModelSettings) -> None:
    for variable, value in (
        ("STOKER_DISTILL_DATA", settings.distill_data),
        ("STOKER_DISTILL_STUDENT", settings.distill_student),
    ):
        if value and not settings.distill:
            raise UnusableModel(
                f"{variable} is for STOKER_DISTILL, which is not set: set it, or leave {variable} "
                "out"
            )
    if not settings.distill:
        return
    taught = _TAUGHT.get(settings.task)
    if taught is None:
        raise UnusableModel(
            f"STOKER_DISTILL teaches on texts, and {settings.task} takes none: leave it out"
        )
    if settings.distill.by is not taught:
        raise UnusableModel(
            f"STOKER_DISTILL={settings.distill.by} does not teach {settings.task}; the nearest "
            f"that works is {str(taught)!r}"
        )
    if not settings.distill_data:
        raise UnusableModel(
            "STOKER_DISTILL needs texts like those that the model will get: STOKER_DISTILL_DATA "
            "must name a file of them, one a line"
        )
    if not (settings.prune or settings.distill_student):
        raise UnusableModel(
            "STOKER_DISTILL has no student: set STOKER_PRUNE, such as 'layers:4', to teach what is "
            "left of the model, or STOKER_DISTILL_STUDENT to teach another"
        )
