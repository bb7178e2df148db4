"""How fast: each figure a ratio, measured in one run against a limit or a peer.

Belongs here: one module a benchmark, with ``run(context) -> Result``; what they share (load
generator, child processes, a platform of their own) in modules named for it. ``python -m bench``
prints one table and writes ``.bench/``. A target that is not met is shown as not met.
Not here: anything that passes or fails (`tests/`), and nothing imports this package.
"""
