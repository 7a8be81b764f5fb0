"""Which products a command is about: folders, or a known stream."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from continuad.benchmark.settings import Settings
from continuad.data.discover import discover
from continuad.data.product import Product, child
from continuad.errors import ContinuadError

HELP = {name: field.metadata["help"] for name, field in Settings.__dataclass_fields__.items()}

Folders = Annotated[list[Path] | None, typer.Argument(help=HELP["folders"], show_default=False)]
StreamName = Annotated[str, typer.Option("--stream", help=HELP["stream"], show_default=False)]
Root = Annotated[Path | None, typer.Option("--root", help=HELP["root"], show_default=False)]


def product_folders(folders: Sequence[Path] | None, stream: str, root: Path | None) -> list[Path]:
    """The folders themselves, or those of a known stream.

    Raises:
        ContinuadError: both, neither or half of what is needed, or a folder of several products.
    """
    if stream and folders:
        raise ContinuadError("give product folders or --stream with --root, not both")
    if root is not None and not stream:
        raise ContinuadError(f"--root {root} is only for a known stream; name it with --stream, or leave --root out")
    if stream:
        from continuad.data.known import named_stream

        if root is None:
            raise ContinuadError(f"--stream {stream} needs --root, the folder that holds its products")
        return named_stream(stream, root)
    if not folders:
        raise ContinuadError("give product folders, or a known stream: --stream thesis10 --root FOLDER")
    refuse_parents(folders)
    return list(folders)


def refuse_parents(folders: Iterable[Path]) -> None:
    """Refuse a folder of product folders: as one product everything in it would be learned as one.

    Raises:
        ContinuadError: a folder has no images of its own, but several folders with good images.
    """
    for folder in folders:
        try:
            product = discover(folder)
        except ContinuadError:  # opening the folders raises it again, together with all other errors
            continue
        inside = _products_inside(product)
        if len(inside) > 1:
            every = f"{shlex.quote(str(folder))}/*"
            raise ContinuadError(
                f"{product.root}: holds no image of its own, but {len(inside)} folders with images "
                f"({_some(inside)}). If they are products, give each: {every}\n"
                f"If all of them show one product, put them into {product.root / 'good'}."
            )


def _products_inside(product: Product) -> list[str]:
    """Names of the folders that all images of a plain folder lie in; none if it has images of its own."""
    if product.layout != "plain" or child(product.root, "good", "ok", "normal"):
        return []
    parts = [item.path.relative_to(product.root).parts for item in product.train]
    return sorted({first for first, *rest in parts if rest}) if all(len(part) > 1 for part in parts) else []


def _some(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
