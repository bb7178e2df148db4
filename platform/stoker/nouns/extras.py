"""How a package that is missing is installed: Stoker is on no index, so only from its checkout."""

from __future__ import annotations


def install(extra: str = "") -> str:
    """What to do where the packages of an extra, or of the core, are missing.

    >>> install("quality")
    "in Stoker's checkout: pip install -e '.[quality]' (or make venv, which installs all)"
    >>> install()
    "in Stoker's checkout: pip install -e . (or make venv, which installs all)"
    """
    named = f"'.[{extra}]'" if extra else "."
    return f"in Stoker's checkout: pip install -e {named} (or make venv, which installs all)"
