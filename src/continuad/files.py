"""Files that are replaced in one step, and file names that every file system takes."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

# A full stop only within a number: "aux.models" and "con.x" are devices on Windows, whatever follows the stop.
_PLAIN = r"(?:[a-z0-9+=:-]|(?<=[0-9])\.(?=[0-9]))+"


def replace_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step.

    Whoever reads `path` meanwhile sees the old file or the new one, never half of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays: matplotlib and pandas choose the format by it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-", suffix=path.suffix)
    os.close(handle)
    new = Path(name)
    try:
        write(new)
        new.chmod(0o644)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    return path


def safe_name(text: str, longest: int = 60) -> str:
    """Part of a file name that no other text gets, on any file system.

    Lower-case letters, digits and `+ = -` stay, as does a decimal point, and ":" becomes "~". A text that holds
    anything else, or more than `longest` characters, is shortened to what may stay and ends in "@" and a hash of it.
    Upper case counts as something else, because some file systems do not distinguish it from lower case.

    Returns:
        ASCII letters, digits and `+ = - . ~ @`, never "_", which is left to join parts: "replay:300" becomes
        "replay~300", and "replay:2MB" "replay~2MB@" with ten hexadecimal digits.
    """
    if len(text) <= longest and re.fullmatch(_PLAIN, text):
        return text.replace(":", "~")
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=5).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9+=~.-]+|(?<![0-9])\.|\.(?![0-9])", "-", text.replace(":", "~").replace("%", "pct"))
    return f"{readable[:longest].strip('-.~')}@{digest}"
