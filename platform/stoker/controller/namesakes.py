"""Names of models that more than one function would answer by: what a deployment is told."""

from __future__ import annotations

from collections.abc import Iterator

from stoker.controller.view import Live
from stoker.controller.world import World
from stoker.decide.route import precedence
from stoker.nouns.errors import StokerError
from stoker.nouns.function import FunctionConfig
from stoker.nouns.model_name import model_name
from stoker.nouns.record import FunctionRecord


def notices(world: World, live: Live, config: FunctionConfig) -> Iterator[str]:
    """What is to be said of the names by which a function is about to serve, a line each."""
    others = {one.name: one.record for one in world.functions.values() if not one.deleted}
    others.pop(live.name, None)
    claims = {name: _model_name(record) for name, record in others.items()}
    shadowed = sorted(name for name, model in claims.items() if model == live.name)
    if shadowed:
        yield (
            f"STOKER_MODEL_NAME {live.name!r} of {', '.join(shadowed)} is this function's name: "
            "requests for that model come to this function"
        )
    model = model_name(config)
    if not model or model == live.name:
        return
    rivals = sorted(name for name, claimed in claims.items() if claimed == model)
    if model in others:
        yield _lost(model, model, f"{model} is a function's name")
    elif rivals:
        first = min(
            [live.name, *rivals],
            key=lambda name: precedence(
                name,
                # This one will: that is what it is deployed for.
                serves=name == live.name or others[name].serving is not None,
                created_at=(others.get(name) or live.record).created_at,
            ),
        )
        whose = f"{', '.join(rivals)} {'has' if len(rivals) == 1 else 'have'} it too"
        if first == live.name:
            yield (
                f"STOKER_MODEL_NAME {model!r}: {whose}; requests for that model come to this "
                "function, which was there first"
            )
        else:
            yield _lost(model, first, whose)


def _lost(model: str, winner: str, why: str) -> str:
    return (
        f"STOKER_MODEL_NAME {model!r}: {why}; requests for that model go to {winner}, and this "
        "function answers by its own name only"
    )


def _model_name(record: FunctionRecord) -> str:
    """The one that the gateways know it by."""
    revision = record.serving or record.candidate
    try:
        return model_name(revision.config) if revision else ""
    except (StokerError, ValueError):
        return ""  # It cannot be read, and that is no fault of who is deployed now.
