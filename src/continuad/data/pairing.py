"""Which mask belongs to which image: by file stem, never by order."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import Path

from continuad.data.names import listed, printable

_SUFFIX = "_mask"


def pair_masks(
    folder: Path, images: list[Path], mask_folder: Path | None, masks: list[Path]
) -> tuple[dict[Path, Path], list[str]]:
    """Pair the images below `folder` with the masks below `mask_folder`.

    The mask of `001.png` is `001_mask` or `001` with any image suffix, in the same sub-folder. Letter case
    and the two Unicode spellings of accented letters do not matter. Where several images share a stem
    (`001.png`, `001.jpg`), each takes the mask with its own suffix; if that is not clear, none takes any.

    Returns:
        The mask of each image that has one, and sentences about images without mask and masks without image.
    """
    by_key, where = _by_key(mask_folder, masks), printable(folder.name)
    pairs: dict[Path, Path] = {}
    problems = []
    for key, group in _by_key(folder, images).items():
        candidates = by_key.get(key + _SUFFIX) or by_key.get(key) or []
        chosen = _choose(group, candidates)
        pairs |= chosen
        if candidates and not chosen:
            problems.append(
                f"unclear which mask belongs to which image in {where}/: {_names(group)} and "
                f"{_names(candidates)}; give each image its own stem and its mask the same."
            )
    for mask in {m for m in pairs.values() if list(pairs.values()).count(m) > 1}:
        owners = [image for image, m in pairs.items() if m == mask]
        problems.append(f"mask {printable(mask.name)} in {where}/ fits several images: {_names(owners)}; rename it.")
        pairs = {image: m for image, m in pairs.items() if m != mask}
    if without := [path for path in images if path not in pairs]:
        all_of = "all " if len(without) == len(images) else ""
        problems.append(f"images without mask in {where}/: {all_of}{len(without)}: {_names(without)}.")
    if stray := [path for path in masks if path not in set(pairs.values())]:
        problems.append(f"masks without image for {where}/: {_names(stray)}.")
    return pairs, problems


def _by_key(root: Path | None, paths: list[Path]) -> dict[str, list[Path]]:
    """Files by sub-folder and stem, ignoring case and Unicode spelling."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths if root else []:
        stem = path.relative_to(root or path).with_suffix("").as_posix()
        groups[unicodedata.normalize("NFC", stem).casefold()].append(path)
    return groups


def _choose(images: list[Path], masks: list[Path]) -> dict[Path, Path]:
    """One mask for each image of the same stem, or none at all if that is not clear."""
    if len(images) == len(masks) == 1:
        return {images[0]: masks[0]}
    chosen = {}
    for image in images:
        names = (image.name, f"{image.stem}{_SUFFIX}{image.suffix}")
        own = [mask for mask in masks if mask.name in names]
        if len(images) != len(masks) or len(own) != 1:
            return {}
        chosen[image] = own[0]
    return chosen


def _names(paths: list[Path]) -> str:
    return listed(path.name for path in paths)
