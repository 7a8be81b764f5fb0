"""Visual anomaly detection that keeps learning: product after product, in bounded memory."""

__version__ = "0.1.0"
