"""Naive fine-tuning: learn each task on its own images and keep nothing of the earlier ones."""

from continuad.core.strategy import Strategy


class Naive(Strategy):
    """The lower bound. A gradient detector is trained on from its last weights; a statistics detector
    starts again, so only the newest task is left (thesis Table 5.2, "Naive")."""
