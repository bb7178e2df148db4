"""Pictures of serving graphs: ``stoker.draw``.

Belongs here: reading a graph's spec (`sketch`), placing its boxes (`layout`), writing them as SVG
(`svg`), and what a notebook shows (`drawing`). Does not belong here: mlrun, which need not be
installed to draw a spec; graphviz and matplotlib, which nobody needs for boxes and arrows.
"""
