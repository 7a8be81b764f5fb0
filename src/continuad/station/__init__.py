"""The station: products taught one after another, inspected, corrected and undone; a folder on disk."""

from continuad.station.station import Station

__all__ = ["Station"]
