"""Pictures: read from files and folders, checked, brought to plain RGB, hashed, augmented.

Reading is strict: whatever is not one still picture is refused with a single line that names the file.
"""

from __future__ import annotations

import hashlib
import io
import logging
import stat
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageEnhance, ImageOps, UnidentifiedImageError

from unsee.errors import PictureError

MAX_PIXELS = 50_000_000
"""Larger pictures are refused before they are decoded; a 50-megapixel camera's still passes."""
MIN_SIDE = 8
"""Pictures with a shorter side, in pixels, show nothing that could be forgotten."""
WORKING_SIDE = 1024
"""Pixels of the longer side at which larger pictures are varied: models see fewer, a photo has thousands."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".jp2", ".ppm", ".pgm")
"""What `load_folder` takes for a picture; `load_picture` goes by the content instead."""

# Pillow knows many more formats; some start other programs (EPS), some can mean almost any file (TGA).
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "JPEG2000", "PPM")
_READABLE = "PNG, JPEG, WebP, AVIF, BMP, GIF, TIFF, JPEG 2000 or PPM"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """One still picture, 8-bit RGB, upright, without metadata. Two pictures are equal if their pixels are.

    Args:
        image: the pixels, a PIL image of mode RGB; not to be modified.
        name: where it came from, for people to read: usually the file's name.
        sha256: hex digest over "WIDTHxHEIGHT" and a line feed, then the RGB bytes row by row. So a renamed or
            losslessly converted file is the same picture, and a re-encoded JPEG is another one.
    """

    image: Image.Image = field(compare=False, repr=False)
    name: str = field(compare=False)
    sha256: str

    @classmethod
    def from_image(cls, image: Image.Image, name: str) -> Picture:
        """Bring any PIL image to 8-bit RGB (EXIF turn applied, transparency laid on white) and hash it.

        Raises:
            PictureError: a side is shorter than `MIN_SIDE`.
        """
        _check_not_tiny(image, name)
        plain = _to_rgb(ImageOps.exif_transpose(image))
        pixels = plain.tobytes()
        digest = hashlib.sha256(f"{plain.width}x{plain.height}\n".encode() + pixels).hexdigest()
        # Rebuilt from bare pixels: the place and camera of a deletion request must not reach a report.
        return cls(Image.frombytes("RGB", plain.size, pixels), name, digest)

    @property
    def width(self) -> int:
        """Pixels from left to right, after the EXIF turn."""
        return self.image.width

    @property
    def height(self) -> int:
        """Pixels from top to bottom, after the EXIF turn."""
        return self.image.height

    def save(self, path: str | Path) -> Path:
        """Write it as PNG, whatever the suffix: lossless, so it loads again with the same sha256.

        Raises:
            PictureError: the file cannot be written.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.image.save(path, format="PNG")
        except OSError as error:
            raise PictureError(f"{_shown(path)}: cannot be written: {error.strerror or error}") from error
        return path


def load_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read one still picture.

    The EXIF turn is applied; CMYK, palette, grey and 16-bit pictures are converted; transparency is laid on
    white. Of a multi-picture JPEG (MPO, as phones write them) the main picture is taken.

    Args:
        path: a file in one of the usual formats.
        max_pixels: width times height at most; checked before anything is decoded.

    Raises:
        PictureError: the file is missing, not a file, empty, not a picture, damaged, cut short, animated or
            of several pages, too large, or too small. One line, with the file's name in it.
    """
    path = Path(path)
    shown = _shown(path)
    _check_file(path, shown)
    try:
        file = path.open("rb")
    except OSError as error:
        raise PictureError(f"{shown}: cannot be read: {error.strerror}") from error
    try:
        with file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is either an error below or of no matter
            with Image.open(file, formats=_formats()) as image:
                _check_shape(image, shown, max_pixels)
                image.load()
                return Picture.from_image(image, _shown(path.name))
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"{shown}: not a picture, or too damaged to tell; give {_READABLE}") from None
    except (Image.DecompressionBombError, MemoryError):
        raise PictureError(f"{shown}: too large to be decoded; {max_pixels / 1e6:g} megapixels are allowed") from None
    except Exception as error:  # on damaged files the decoders raise many unrelated types
        if "truncated" in str(error).lower() or isinstance(error, EOFError):
            raise PictureError(f"{shown}: the file is cut short (truncated); get a complete copy") from error
        raise PictureError(f"{shown}: the file is damaged or cut short and cannot be decoded") from error


def load_folder(path: str | Path, problems: list[str] | None = None) -> list[Picture]:
    """Read all pictures of a folder, not of its subfolders.

    Args:
        path: the folder. Hidden files and files without one of `SUFFIXES` are passed over.
        problems: takes one line for each file that could not be read or repeats another one's pixels; without
            it these lines are logged as warnings.

    Returns:
        The pictures in the order of their file names, each once by content; at least one.

    Raises:
        PictureError: no such folder, no picture in it, or none that can be read.
    """
    path = Path(path)
    shown = _shown(path)
    try:
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    except FileNotFoundError:
        raise PictureError(f"{shown}: there is no such folder") from None
    except NotADirectoryError:
        raise PictureError(f"{shown}: not a folder; a folder with pictures is needed here") from None
    except (OSError, ValueError) as error:
        raise PictureError(f"{shown}: the folder cannot be read: {error}") from error
    if not files:
        raise PictureError(f"{shown}: no pictures in this folder; looked for {', '.join(SUFFIXES)}")
    found: dict[str, Picture] = {}
    lines: list[str] = []
    for file in files:
        try:
            picture = load_picture(file)
        except PictureError as error:
            lines.append(str(error))
            continue
        first = found.setdefault(picture.sha256, picture)
        if first is not picture:
            lines.append(f"{_shown(file)}: the same picture as {first.name}, taken once")
    if not found:
        raise PictureError(f"{shown}: none of the {len(files)} pictures can be read; the first: {lines[0]}")
    if problems is None:
        for line in lines:
            _log.warning("%s", line)
    else:
        problems.extend(lines)
    return list(found.values())


def augment(picture: Picture, n: int, seed: int, flip: bool = False) -> list[Picture]:
    """Make variations of one picture: a small turn, a crop, other brightness, contrast and colour.

    Variation i depends on the picture, the seed and i only, so more of them begin with the same ones. They say
    less than other pictures of the concept do: a report has to tell that they were used.

    Args:
        picture: the picture to vary.
        n: how many, at least 0.
        seed: at least 0; the same seed gives the same pixels.
        flip: whether half of them may be mirrored. Off by default: letters, logos and many flags are not
            themselves in a mirror.

    Returns:
        `n` pictures of the original's size, or of `reduced`'s where that is smaller.
    """
    if n < 0 or seed < 0:
        raise ValueError(f"n and seed must be at least 0, got {n} and {seed}")
    image = reduced(picture.image)
    varied = (_vary(image, np.random.default_rng([seed, i]), flip) for i in range(n))
    return [Picture.from_image(image, f"{picture.name} (variation {i})") for i, image in enumerate(varied, start=1)]


def reduced(image: Image.Image) -> Image.Image:
    """The image with a longer side of at most `WORKING_SIDE` pixels (more only where the shorter one needs it)."""
    scale = max(WORKING_SIDE / max(image.size), MIN_SIDE / min(image.size))
    if scale >= 1:
        return image
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _vary(image: Image.Image, rng: np.random.Generator, flip: bool) -> Image.Image:
    width, height = image.size
    if flip and rng.random() < 0.5:
        image = ImageOps.mirror(image)
    border = np.concatenate([np.asarray(edge).reshape(-1, 3) for edge in _edges(image)])
    red, green, blue = (int(c) for c in np.median(border, axis=0))
    image = image.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, fillcolor=(red, green, blue))
    kept = rng.uniform(0.75, 0.98)
    left, top = rng.uniform(0, 1 - kept) * width, rng.uniform(0, 1 - kept) * height
    box = (left, top, left + kept * width, top + kept * height)
    image = image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.75, 1.25))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(0.85, 1.15))
    return ImageEnhance.Color(image).enhance(rng.uniform(0.7, 1.3))


def _edges(image: Image.Image) -> list[Image.Image]:
    """The four outermost rows and columns; their median colour fills the corners that a turn uncovers."""
    width, height = image.size
    boxes = ((0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height))
    return [image.crop(box) for box in boxes]


def _formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]  # a Pillow built without WebP or AVIF lacks some


def _shown(path: str | Path) -> str:
    """The path on one line, also where its name holds line breaks, control characters or broken bytes."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def _check_file(path: Path, shown: str) -> None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise PictureError(f"{shown}: there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise PictureError(f"{shown}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise PictureError(f"{shown}: this is a folder; one picture file is needed here")
    if not stat.S_ISREG(status.st_mode):
        raise PictureError(f"{shown}: not a regular file")
    if status.st_size == 0:
        raise PictureError(f"{shown}: the file is empty (0 bytes)")


def _check_not_tiny(image: Image.Image, shown: str) -> None:
    if min(image.size) < MIN_SIDE:
        raise PictureError(
            f"{shown}: {image.width} x {image.height} pixels is too small; {MIN_SIDE} a side is the least"
        )


def _check_shape(image: Image.Image, shown: str, max_pixels: int) -> None:
    """Refuse what the header already tells: too large, too small, animated."""
    _check_not_tiny(image, shown)
    if image.width * image.height > max_pixels:
        raise PictureError(
            f"{shown}: {image.width} x {image.height} pixels is too large; "
            f"{max_pixels / 1e6:g} megapixels are allowed, scale it down"
        )
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":  # an MPO is a photo with its preview or depth map
        what = "pages; save one of them" if image.format == "TIFF" else "frames (animated); save one of them"
        raise PictureError(f"{shown}: holds {frames} {what} as a picture of its own")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_eight_bits(image)
    elif image.mode == "CMYK":
        image = _from_cmyk(image)
    if image.has_transparency_data:
        straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)  # premultiplied modes need a step more
        rgba = image.convert(straight).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale wide grey values to 0..255; Pillow itself would clip them to white.

    16-bit modes run to 65535. In 32-bit integers and floats the range is not recorded: the largest value
    tells whether 8 or 16 bits (integers), 0..1 or 0..255 (floats) are meant.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    if image.mode == "F":
        top = 1.0 if values.max() <= 1 else 255.0
    else:
        top = 255.0 if image.mode == "I" and values.max() <= 255 else 65535.0
    return Image.fromarray(np.clip(np.round(values * (255 / top)), 0, 255).astype(np.uint8))


def _from_cmyk(image: Image.Image) -> Image.Image:
    """By the embedded colour profile where there is a usable one: print colours look wrong without it."""
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
            _log.debug("colour profile ignored: %s", error)
        else:
            return converted if converted is not None else image.convert("RGB")
    return image.convert("RGB")


__all__ = [
    "MAX_PIXELS",
    "MIN_SIDE",
    "SUFFIXES",
    "WORKING_SIDE",
    "Picture",
    "augment",
    "load_folder",
    "load_picture",
    "reduced",
]
