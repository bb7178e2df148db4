"""A card that answers this process no more.

After an illegal access, or an assertion that failed in a kernel, every later call of the process
fails, whatever it asks: its worker would refuse all requests, faster than its neighbours serve any.
"""

from __future__ import annotations

import sys

from stoker.models.held import is_shortage

EXIT_LOST_CARD = 73
"""The exit code of a worker whose card answers no more."""


class CardLost(SystemExit):
    """This process must end; another one can use the card."""

    def __init__(self, why: str) -> None:
        super().__init__(EXIT_LOST_CARD)
        self.why = why

    def __str__(self) -> str:
        return self.why


def end_if_lost(exc: BaseException) -> None:
    """Nothing, unless what failed has taken the card along. Asks the card, and so waits for it.

    Raises:
        CardLost: it has.
    """
    said = _error_of_the_card()
    if said:
        raise CardLost(
            f"the card answers this process no more: {said} (seen after {type(exc).__name__}: "
            f"{exc})"
        ) from exc


def _error_of_the_card() -> str:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return ""
    for index in range(torch.cuda.device_count()):
        # Not of one that holds nothing: to ask would make a context there.
        if torch.cuda.memory_reserved(index):
            try:
                torch.cuda.synchronize(index)
            except RuntimeError as error:
                if not is_shortage(error):
                    return str(error).partition("\n")[0]
    return ""
