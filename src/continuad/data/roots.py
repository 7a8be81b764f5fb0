"""Checks of the folders that are given: each exists, is given once, and shares no image with another by a link."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from continuad.data.names import canonical_root, counted, listed, missing_part, printable, shown
from continuad.data.product import Product
from continuad.errors import ContinuadError


def product_roots(folders: str | Path | Iterable[str | Path]) -> list[Path]:
    """Folders as absolute paths, fixed now: a later change of the working directory changes nothing.

    Raises:
        ContinuadError: no folder, or one given twice, by whatever spelling or link.
    """
    several = [folders] if isinstance(folders, str | Path) else list(folders)
    if not several:
        raise ContinuadError("No product folder was given. Name at least one, e.g. .../mvtec/bottle.")
    roots = [Path(os.path.abspath(Path(folder).expanduser())) for folder in several]
    first: dict[object, Path] = {}
    for root in roots:
        earlier = first.setdefault(_identity(root), root)
        if earlier is root:
            continue
        if earlier == root:
            raise ContinuadError(f"{printable(root)}: this folder was given {roots.count(root)} times. Give it once.")
        raise ContinuadError(f"{printable(root)}: this is the same folder as {printable(earlier)}. Give it once.")
    return roots


def refuse_missing(root: Path) -> None:
    """A product's folder must be there.

    Raises:
        ContinuadError: it is not; names the first part of its path that is missing.
    """
    example = "Give the folder of one product, e.g. .../mvtec/bottle."
    if why := missing_part(root):
        raise ContinuadError(f"{printable(root)}: {_this(root, why)}. {example}")
    if not os.path.isdir(root):
        raise ContinuadError(f"{printable(root)}: this folder is a file, not a folder. {example}")


class Owners:
    """Which product learns from which file, by whatever path or link."""

    def __init__(self) -> None:
        self._seen: dict[object, tuple[Product, Path]] = {}
        self._learns: dict[object, Product] = {}

    def add(self, product: Product) -> Product:
        """The product, with a sentence about images that links put there twice.

        Raises:
            ContinuadError: an earlier product learns from one of its training files.
        """
        twice = []
        for item in (*product.train, *product.test):
            who = _identity(item.path)
            owner, path = self._seen.setdefault(who, (product, item.path))
            if path != item.path:
                where = shown(owner.root, path) if owner is product else printable(path)
                twice.append(f"{shown(product.root, item.path)} is {where}")
        for item in product.train:
            owner = self._learns.setdefault(_identity(item.path), product)
            if owner is not product:
                raise ContinuadError(_learned_twice(product, owner, item.path))
        if twice:
            problem = f"{counted(len(twice), 'image')} there twice by links: {listed(twice)}."
            return replace(product, problems=(*product.problems, problem))
        return product


def _learned_twice(product: Product, other: Product, path: Path) -> str:
    return (
        f"{printable(product.root)}: learns from files that {printable(other.root)} learns from too, such as "
        f"{shown(product.root, path)}. Give every image to one product only."
    )


def _this(root: Path, why: str) -> str:
    """The reason, without naming the folder a second time."""
    return why.replace(printable(root), "this folder", 1) if why.startswith(f"{printable(root)} ") else why


def _identity(path: Path) -> object:
    """Equal for two paths that lead to the same file or folder."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):  # not there, or no path at all
        return path
    return (about.st_dev, about.st_ino) if about.st_ino else canonical_root(path)
