"""Pictures as data URIs: re-encoded small, so that no metadata of the original travels along."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from unsee.data.pictures import load_picture
from unsee.errors import PictureError


def data_uri(path: Path, side: int) -> str | None:
    """The picture as a data URI, at most `side` pixels wide and high; None where it cannot be read.

    Up to 128 pixels it is PNG and exact, larger ones become JPEG.
    """
    try:
        picture = load_picture(path).image
    except PictureError:
        # A report with one picture missing is worth more than none; the page says so in its place.
        return None
    exact = max(picture.size) <= 128
    if not exact:
        picture = picture.copy()
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if exact:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "JPEG", quality=86, optimize=True)
    kind = "png" if exact else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


class Album:
    """The pictures of a run by short hash, each encoded once a size.

    Args:
        files: by the first 16 hex digits of the sha256.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._made: dict[tuple[str, int], str | None] = {}

    def uri(self, key: str, side: int = 224) -> str | None:
        """The picture's data URI, or None where there is none that can be read."""
        if key not in self._files:
            return None
        if (key, side) not in self._made:
            self._made[key, side] = data_uri(self._files[key], side)
        return self._made[key, side]
