"""Visual anomaly detection that keeps learning: product after product, in bounded memory."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from continuad.benchmark.run import run
    from continuad.data.stream import named_stream, open_stream
    from continuad.errors import ContinuadError
    from continuad.model_file import load_model, save_model
    from continuad.names import make_detector, make_strategy
    from continuad.predict import predict_files
    from continuad.report.tables import summarise

_WHERE = {
    "ContinuadError": "continuad.errors",
    "load_model": "continuad.model_file",
    "make_detector": "continuad.names",
    "make_strategy": "continuad.names",
    "named_stream": "continuad.data.stream",
    "open_stream": "continuad.data.stream",
    "predict_files": "continuad.predict",
    "run": "continuad.benchmark.run",
    "save_model": "continuad.model_file",
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


def __getattr__(name: str) -> Any:
    """Import on first use: `continuad --help` and the metrics need not wait for torch."""
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'continuad' has no attribute '{name}'")
