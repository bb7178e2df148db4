"""What running out of device memory teaches about the bytes of a revision.

A request that is out of memory at half its batch as well is refused with 507. Once is a request too
large, which its sender can make smaller; twice is a promise that was too small. From then on the
revision's next replica is promised what the largest refused request would have needed, where that
can be had: where it cannot, it runs with what it had, and serves what fits.
"""

from __future__ import annotations

from stoker.nouns.record import ModelBytes, Revision

REPEATED = 2
"""Refusals, over all workers of the revision, from which on they count."""


def with_shortage(model: ModelBytes | None, times: int, needed: int) -> ModelBytes:
    """What is known of a revision's bytes after more refusals; the same where that is no news.

    Args:
        model: what was known.
        times: refusals since the last word.
        needed: bytes that the largest of them would have had to hold in one worker.

    >>> with_shortage(None, 1, 700).short_times
    1
    """
    known = model or ModelBytes(key="", weights=0)
    news = {
        "short_times": min(REPEATED, known.short_times + times),
        "short": max(known.short, needed),
    }
    if (known.short_times, known.short) == tuple(news.values()):
        return known
    return known.model_copy(update=news)


def learned(model: ModelBytes | None) -> int:
    """Bytes that one worker was seen to need; 0: nothing was learned.

    >>> learned(ModelBytes(key="", weights=0, short=700, short_times=1))
    0
    >>> learned(ModelBytes(key="", weights=0, short=700, short_times=2))
    700
    """
    return model.short if model is not None and model.short_times >= REPEATED else 0


def modest(revision: Revision) -> Revision | None:
    """The revision as if nothing had been learned; None when nothing was."""
    model = revision.model
    if model is None or not learned(model):
        return None
    # Without a checkpoint and a peak nothing at all is known of it.
    known = model.model_copy(update={"short": 0, "short_times": 0})
    return revision.model_copy(update={"model": known if known.key or known.measured else None})
