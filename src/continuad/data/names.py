"""Names of files and folders as people write and mistype them: any the file system has, shown safely."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

_TURN_ROUND = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # bidirectional controls
_LONG = 200  # bytes: most file systems end at 255, and results add a number and a suffix


def printable(name: object) -> str:
    """A name that every terminal, TOML, HTML or Parquet file can hold.

    Bytes that are no UTF-8 (which Python keeps as lone surrogates), control characters, line separators and
    characters that turn the reading direction round become visible escapes: `Stra\\xdfe.png`, `a\\x0ab.png`.
    Every other name stays as it is.
    """
    return "".join(char if _is_plain(char) else _escaped(char) for char in str(name))


def oddity(name: str) -> str:
    """What makes a file's name hard to carry to other programs, a clause; empty for a plain name."""
    if any("\ud800" <= char <= "\udfff" for char in name):
        return "its name is not UTF-8; shown with \\x for the bytes that are not"
    if printable(name) != name:
        return "its name holds control characters; shown with \\x or \\u"
    if (length := len(os.fsencode(name))) > _LONG:
        return f"its name is {length} bytes long; results named after it may not fit on a disk"
    return ""


def unique_names(roots: Sequence[Path]) -> list[str]:
    """Printable folder names, with as many parents in front ("a/screw", "b/screw") as make them differ.

    Names count as the same if they differ in letter case or Unicode spelling only: on many disks they would be
    one file. Where whole paths are the same by this rule, later ones get a number.
    """
    depth = [1] * len(roots)
    while True:
        names = [printable("/".join(root.parts[-d:])) for root, d in zip(roots, depth, strict=True)]
        seen = [unicodedata.normalize("NFC", name).casefold() for name in names]
        clash = [seen.count(s) > 1 and d < len(r.parts) for s, d, r in zip(seen, depth, roots, strict=True)]
        if not any(clash):
            return [f"{n} ({k + 1})" if (k := seen[:i].count(seen[i])) else n for i, n in enumerate(names)]
        depth = [d + c for d, c in zip(depth, clash, strict=True)]


def canonical_root(folder: str | Path) -> Path:
    """The one spelling of a folder: absolute, with `~`, `..` and links resolved, letter case as Windows ignores it.

    Two spellings lead to one folder exactly if their canonical roots are equal. The folder need not exist.
    """
    return Path(os.path.normcase(os.path.realpath(Path(folder).expanduser())))


def missing_part(path: Path) -> str:
    """Why there is nothing at an absolute path: names its first part that is not there. Empty if it is there."""
    for part in [*reversed(path.parents), path]:
        try:
            os.stat(part)
        except FileNotFoundError:
            if part.is_symlink():
                return f"{printable(part)} is a link to {printable(os.readlink(part))}, which does not exist"
            return f"{printable(part)} does not exist"
        except NotADirectoryError:
            return f"{printable(part.parent)} is a file, not a folder"
        except ValueError:  # a null character
            return f"{printable(part)} is no path"
        except OSError as error:  # no permission, a name too long, a link to itself
            return f"{printable(part)} cannot be reached ({error.strerror})"
    return ""


def listed(names: Iterable[object], limit: int = 10) -> str:
    """Printable names joined by commas; beyond `limit` the rest is counted."""
    several = [printable(name) for name in names]
    more = f" and {len(several) - limit} more" if len(several) > limit else ""
    return ", ".join(several[:limit]) + more


def counted(number: int, what: str) -> str:
    """ "1 image", "3 images"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def shown(root: Path, path: Path) -> str:
    """A path as seen from the product's folder, printable, with forward slashes on every system."""
    return printable(path.relative_to(root).as_posix())


def _is_plain(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") and char not in _TURN_ROUND


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python's file system functions give it
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
