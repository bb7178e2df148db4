"""How many files and sockets a process of the platform may have open."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

WANTED = 65_536
"""A connection, a worker and a subscription cost one each; most systems begin with 1024. More would
only make programs slow that close all that they might have inherited."""


def allow_descriptors(wanted: int = WANTED) -> int:
    """Raises the soft limit as far as the hard one lets it; the limit that holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError) as error:
        log.warning("at most %d files and sockets may be open: %s", soft, error)
        return soft
    return most
