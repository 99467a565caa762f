"""The road of learning: what is learnt from which cells, by which recipe, and how held-out cells are scored.

``Study`` holds the cells and their features, a ``Recipe`` says how a model is made, ``learn`` makes it, and
``cross_validate`` makes one for every training part and scores the cells that it has not met. Every command that fits
anything walks this road.
"""
