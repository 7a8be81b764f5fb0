"""Accumulate: statistics add up over tasks instead of starting again; no image is kept."""

from continuad.core.strategy import Strategy


class Accumulate(Strategy):
    """One model of all images seen, in constant memory. For Gaussian statistics this is exact moment
    pooling: the result equals learning all tasks' images in one go, in any split. A gradient detector's
    statistics (such as a teacher's channel moments) add up while its weights are fine-tuned."""

    statistics = "accumulate"
