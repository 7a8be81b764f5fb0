"""Visual anomaly detection that keeps learning: product after product, in bounded memory."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from continuad.benchmark.run import run
    from continuad.data.known import named_stream
    from continuad.data.stream import open_stream
    from continuad.errors import ContinuadError
    from continuad.models.predict import predict_files
    from continuad.models.registry import make_detector, make_strategy
    from continuad.models.store import load_model, save_model
    from continuad.report.tables import summarise

_WHERE = {
    "ContinuadError": "continuad.errors",
    "load_model": "continuad.models.store",
    "make_detector": "continuad.models.registry",
    "make_strategy": "continuad.models.registry",
    "named_stream": "continuad.data.known",
    "open_stream": "continuad.data.stream",
    "predict_files": "continuad.models.predict",
    "run": "continuad.benchmark.run",
    "save_model": "continuad.models.store",
    "summarise": "continuad.report.tables",
}

__all__ = [
    "ContinuadError",
    "load_model",
    "make_detector",
    "make_strategy",
    "named_stream",
    "open_stream",
    "predict_files",
    "run",
    "save_model",
    "summarise",
]


def __getattr__(name: str) -> object:
    """Import on first use: `continuad --help` and the metrics need not wait for torch."""
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'continuad' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
