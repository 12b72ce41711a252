"""Turns what services write as folders into one file that a browser can save."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory


def zipped(write: Callable[[Path], object]) -> bytes:
    """Have a folder written and pack it.

    Args:
        write: Gets the path of a folder that does not exist yet, and fills it.

    Returns:
        A ZIP archive; equal files give equal bytes, since no times are kept.
    """
    packed = io.BytesIO()
    with TemporaryDirectory(prefix="param-") as temporary:
        folder = Path(temporary) / "export"
        write(folder)
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                entry = zipfile.ZipInfo(str(path.relative_to(folder)))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
    return packed.getvalue()
