"""The one way in which a verb ends without success: a message, and what to do about it."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class Failure(Exception):
    """Ends the verb with a message on stderr and an exit code; never with a traceback.

    Attributes:
        hint: what to try next; empty when there is nothing to say.
        exit_code: 1 for errors, 2 for wrong usage.
    """

    def __init__(self, message: str, *, hint: str = "", exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
