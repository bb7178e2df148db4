"""Which modules of a model are quantized, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from stoker.models.quantize.linears import INT4_GROUP
from stoker.nouns.errors import UnusableModel

_SMALL = 0.01
"""Share of the linear layers' numbers up to which other matrices (position tables, tokens that
are parameters) may stay without being declared."""


_GROUPED = frozenset({"int4", "gptq", "awq"})


@dataclass(frozen=True, slots=True)
class Plan:
    """Attributes: ``replace`` are names of modules; ``reasons`` says why each other one stays."""

    replace: tuple[str, ...]
    reasons: dict[str, str]


def plan(model: nn.Module, method: str, skip: Sequence[str], *, device: str) -> Plan:
    """Decides for each module that has a weight matrix.

    Args:
        model: with its head.
        method: a name of `stoker.models.quantize.linears.SCHEMES`.
        skip: patterns of modules that stay.
        device: ``cpu`` or ``cuda``.

    Raises:
        UnusableModel: a pattern matches nothing, nothing would be replaced, or a large part of the
            model would silently stay.
    """
    found = dict(matrices(model))
    check_patterns(skip, [*found])
    replace, reasons = [], {}
    for name, module in found.items():
        reason = _reason(model, name, module, method, skip, device)
        if reason:
            reasons[name] = reason
        else:
            replace.append(name)
    _check(model, method, replace, reasons)
    return Plan(tuple(replace), reasons)


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern means a module: by its whole name, a parent's, or the last part.

    >>> [matches("encoder.layer.0.attn.query", p) for p in ("query", "*.attn.*", "encoder", "attn")]
    [True, True, True, False]
    """
    parts = name.split(".")
    parents = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return any(fnmatchcase(one, pattern) for one in [*parents, parts[-1]])


def matrices(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that own a parameter of two or more dimensions."""
    for name, module in model.named_modules():
        if any(parameter.ndim > 1 for parameter in module.parameters(recurse=False)):
            yield name, module


def _reason(
    model: nn.Module, name: str, module: nn.Module, method: str, skip: Sequence[str], device: str
) -> str:
    """Why a module stays; empty if it does not."""
    if any(matches(name, pattern) for pattern in skip):
        return "declared"
    if isinstance(module, nn.Embedding):
        return "embedding"
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return "convolution"
    if type(module) is not nn.Linear:
        return "table" if _is_table(module) else "kind"
    if is_head(model, name):
        return "head"
    if (
        method in ("nf4", "fp4", "int8-dynamic")
        and device == "cuda"
        and (module.in_features % 8 or module.out_features % 8)
    ):
        return "shape"
    if method in _GROUPED and (module.in_features % INT4_GROUP or module.out_features % 16):
        return "shape"
    return ""


def _is_table(module: nn.Module) -> bool:
    """Whether its matrices are added and never multiplied: positions, class tokens."""
    own = [one for one in module.parameters(recurse=False) if one.ndim > 1]
    return all(one.shape[0] == 1 for one in own)


def is_head(model: nn.Module, name: str) -> bool:
    """Outside the base model: small, or tied to the embedding, and the most sensitive of all."""
    prefix = str(getattr(model, "base_model_prefix", ""))
    return bool(prefix) and hasattr(model, prefix) and not name.startswith(f"{prefix}.")


def check_patterns(skip: Sequence[str], names: Sequence[str]) -> None:
    """Refuses a pattern that means no module: a typo would quantize what should stay.

    Raises:
        UnusableModel: naming it, and what there is.
    """
    for pattern in skip:
        if not any(matches(name, pattern) for name in names):
            shown = ", ".join(names[:6])
            raise UnusableModel(
                f"STOKER_QUANTIZATION_SKIP: {pattern!r} matches no module with a weight matrix; "
                f"there are {len(names)}, such as {shown}"
            )


def _check(model: nn.Module, method: str, replace: list[str], reasons: dict[str, str]) -> None:
    if not replace:
        why = ", ".join(f"{name} ({reason})" for name, reason in list(reasons.items())[:6])
        raise UnusableModel(
            f"{method} replaced no module: this model has no linear layer that it could; "
            f"its matrices are {why or 'none'}; the nearest that works is 'bf16'"
        )
    sizes = {name: _numbers(model.get_submodule(name)) for name in [*replace, *reasons]}
    left = [name for name, reason in reasons.items() if reason in ("kind", "shape")]
    if sum(sizes[name] for name in left) > _SMALL * sum(sizes[name] for name in replace):
        raise UnusableModel(
            f"{method} would leave {len(left)} modules as they are that it should replace: "
            f"{', '.join(left[:6])}{' …' if len(left) > 6 else ''}; name them in "
            "STOKER_QUANTIZATION_SKIP if that is meant"
        )


def _numbers(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters(recurse=False) if one.ndim > 1)
