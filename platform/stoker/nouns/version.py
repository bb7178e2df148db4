"""The version of this code, which is known where it is not installed too: run from a checkout."""

VERSION = "0.1.0"
"""As in pyproject.toml; a test keeps them the same."""
