"""Which requirements the platform's own packages satisfy, so that nothing is installed for them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from stoker.controller.pip_plan import PipPlan


def without_satisfied(plan: PipPlan) -> tuple[PipPlan, list[str]]:
    """The plan less what is installed here already, and what that is: ``name version``.

    With options of pip's (other versions wanted, another index) the plan stays as it is: only pip
    knows what they mean. What is no name with a version (a path, a URL) is never left out.
    """
    if plan.options:
        return plan, []
    missing, satisfied = [], []
    for text in plan.requirements:
        version = _installed(text)
        if version is None:
            missing.append(text)
        else:
            satisfied.append(version)
    # Together they decide which versions fit: what must be installed is resolved with the rest.
    return (plan, []) if missing and satisfied else (PipPlan(tuple(missing)), satisfied)


def _installed(text: str) -> str | None:
    """``name version`` of what satisfies a requirement here, with its extras; None when nothing."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    if requirement.url is not None:
        return None
    if requirement.marker is not None and not requirement.marker.evaluate():
        return f"{requirement.name} (not for this machine)"
    if not _satisfied(requirement, frozenset()):
        return None
    return f"{requirement.name} {metadata.version(requirement.name)}"


def _satisfied(requirement: Requirement, seen: frozenset[str]) -> bool:
    try:
        found = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    if not requirement.specifier.contains(found.version, prereleases=True):
        return False
    key = f"{requirement.name}[{','.join(sorted(requirement.extras))}]"
    if not requirement.extras or key in seen:
        return True
    return all(_satisfied(each, seen | {key}) for each in _of_extras(found, requirement.extras))


def _of_extras(found: metadata.Distribution, extras: set[str]) -> Iterator[Requirement]:
    """What a distribution wants for these extras, and not without them."""
    for text in found.requires or ():
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        marker = wanted.marker
        if marker is None or marker.evaluate({"extra": ""}):
            continue
        if any(marker.evaluate({"extra": extra}) for extra in extras):
            yield wanted
