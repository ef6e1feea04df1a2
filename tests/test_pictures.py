"""Reading, hashing and augmenting pictures; every bad file gives one clear line."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from unsee.data.pictures import Picture, augment, load_folder, load_picture, reduced
from unsee.errors import PictureError, UnseeError

FORMATS = {"PNG": "png", "JPEG": "jpg", "BMP": "bmp", "GIF": "gif", "TIFF": "tif", "PPM": "ppm"}
if features.check("webp"):
    FORMATS["WEBP"] = "webp"
if features.check("avif"):
    FORMATS["AVIF"] = "avif"
if features.check("jpg_2000"):
    FORMATS["JPEG2000"] = "jp2"
LOSSLESS = ("PNG", "BMP", "TIFF", "PPM")


def noise(width: int = 40, height: int = 24, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def refusal(path: Path | str, **options: int) -> str:
    """The one line that refuses a picture."""
    with pytest.raises(PictureError) as caught:
        load_picture(path, **options)
    line = str(caught.value)
    assert "\n" not in line and line
    return line


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_loads_as_rgb(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"some.{FORMATS[form]}"
    noise().save(path, format=form)
    picture = load_picture(path)
    assert (picture.image.mode, picture.width, picture.height) == ("RGB", 40, 24)
    assert picture.name == path.name
    assert (picture == Picture.from_image(noise(), "other name")) == (form in (*LOSSLESS, "JPEG2000"))


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(noise(), "PNG"))
    assert load_picture(path) == Picture.from_image(noise(), "x")


def test_equality_and_hash_are_the_pixels() -> None:
    one, same = Picture.from_image(noise(), "one"), Picture.from_image(noise(), "two")
    other = Picture.from_image(noise(seed=1), "one")
    assert one == same and hash(one) == hash(same) and len({one, same, other}) == 2
    assert len(one.sha256) == 64 and int(one.sha256, 16) >= 0


def test_the_size_belongs_to_the_hash() -> None:
    wide, tall = Image.new("RGB", (32, 8)), Image.new("RGB", (8, 32))
    assert Picture.from_image(wide, "x") != Picture.from_image(tall, "x")


def test_the_hash_is_stable() -> None:
    """Run folders and certificates of earlier versions hold these hashes."""
    picture = Picture.from_image(Image.new("RGB", (8, 8), (1, 2, 3)), "x")
    assert picture.sha256 == hashlib.sha256(b"8x8\n" + bytes([1, 2, 3]) * 64).hexdigest()


def test_exif_turn_is_applied_and_metadata_dropped(tmp_path: Path) -> None:
    upright = noise()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: turn by 90 degrees clockwise to show
    exif[0x010F] = "a camera"
    path = tmp_path / "turned.png"
    upright.rotate(90, expand=True).save(path, exif=exif)
    picture = load_picture(path)
    assert (picture.width, picture.height) == (40, 24)
    assert picture == Picture.from_image(upright, "x")
    kept = load_picture(picture.save(tmp_path / "out.png"))
    assert kept == picture
    assert not picture.image.info and not picture.image.getexif()
    assert b"a camera" not in (tmp_path / "out.png").read_bytes()


def test_alpha_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 8, 16))
    image.paste((0, 0, 255, 128), (8, 8, 16, 16))
    image.save(tmp_path / "a.png")
    pixels = load_picture(tmp_path / "a.png").image
    assert pixels.getpixel((2, 2)) == (255, 0, 0)
    assert pixels.getpixel((12, 2)) == (255, 255, 255), "transparent black must not turn black"
    assert pixels.getpixel((12, 12)) == (127, 127, 255)


@pytest.mark.parametrize("mode", ["LA", "PA", "La", "RGBa"])
def test_other_alpha_modes(mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    if mode == "La":
        image = image.convert("LA")
    if mode == "PA":
        image = Image.new("PA", (16, 16), (0, 0))
    converted = Picture.from_image(image.convert(mode), "x").image
    assert converted.getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_transparent_palette_entry(tmp_path: Path, form: str) -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 8, 16))
    image.save(tmp_path / "p", format=form, transparency=0)
    pixels = load_picture(tmp_path / "p").image
    assert pixels.getpixel((2, 2)) == (200, 100, 50)
    assert pixels.getpixel((12, 2)) == (255, 255, 255)


def test_transparent_colour_of_an_rgb_png(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (9, 9, 9)).save(tmp_path / "t.png", transparency=(9, 9, 9))
    assert load_picture(tmp_path / "t.png").image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk(tmp_path: Path, form: str) -> None:
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "c", format=form)
    assert load_picture(tmp_path / "c").image.getpixel((3, 3)) == (0, 255, 255)


def test_cmyk_goes_by_its_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # stands for a printer's
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "c.tif", icc_profile=profile)
    asked = []

    def convert(image: Image.Image, source: object, target: object, outputMode: str) -> Image.Image:
        asked.append((image.mode, outputMode))
        return Image.new("RGB", image.size, (0, 160, 230))

    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    assert load_picture(tmp_path / "c.tif").image.getpixel((3, 3)) == (0, 160, 230)
    assert asked == [("CMYK", "RGB")]


def test_cmyk_with_a_broken_profile(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "c.tif", icc_profile=b"no profile at all")
    assert load_picture(tmp_path / "c.tif").image.getpixel((3, 3)) == (0, 255, 255)


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    values = np.full((16, 16), 32896, dtype=np.uint16)
    values[0, 0] = 65535
    Image.fromarray(values).save(tmp_path / "deep.png")
    pixels = load_picture(tmp_path / "deep.png").image
    assert pixels.getpixel((8, 8)) == (128, 128, 128), "clipping to 255 would make it white"
    assert pixels.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.full((16, 16), 0.5, dtype=np.float32), 128),
        (np.full((16, 16), 200, dtype=np.float32), 200),
        (np.full((16, 16), np.nan, dtype=np.float32), 0),
        (np.full((16, 16), 200, dtype=np.int32), 200),
        (np.full((16, 16), 32896, dtype=np.int32), 128),
        (np.full((16, 16), -5, dtype=np.int32), 0),
    ],
)
def test_wide_grey_values(values: np.ndarray, expected: int) -> None:
    assert Picture.from_image(Image.fromarray(values), "x").image.getpixel((4, 4)) == (expected,) * 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr", "HSV", "RGBX", "LAB"])
def test_plain_modes(mode: str) -> None:
    white = Image.new("RGB", (16, 16), "white").convert(mode)
    assert np.asarray(Picture.from_image(white, "x").image).min() >= 254


def test_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.png") == f"{tmp_path}/none.png: there is no such file"
    (tmp_path / "file").write_bytes(b"x")
    assert "no such file" in refusal(tmp_path / "file" / "below.png")


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    assert "folder" in refusal(tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "e.png").touch()
    assert "e.png: the file is empty (0 bytes)" in refusal(tmp_path / "e.png")


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in refusal(tmp_path / "pipe.png")


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000])
def test_impossible_names(name: str) -> None:
    assert "cannot be read" in refusal(name)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.png"
    noise().save(path)

    def locked(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", locked)  # root may read everything, so chmod would show nothing
    assert refusal(path) == f"{path}: cannot be read: Permission denied"


def test_names_never_break_the_line(tmp_path: Path) -> None:
    (tmp_path / "two\nlines\x1b[31m.png").write_bytes(b"no picture")
    line = refusal(tmp_path / "two\nlines\x1b[31m.png")
    assert r"two\nlines" in line and "\x1b" not in line


@pytest.mark.parametrize(
    "content", [b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>", bytes(4000)]
)
def test_not_a_picture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "n.png").write_bytes(content)
    assert "n.png: not a picture, or too damaged to tell; give PNG, JPEG" in refusal(tmp_path / "n.png")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("form", FORMATS)
def test_truncated(tmp_path: Path, form: str, share: float) -> None:
    data = encoded(noise(), form)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * share)])
    line = refusal(path).removeprefix(str(path))
    assert "cut short" in line or (form in ("AVIF", "GIF") and "too damaged to tell" in line)  # long headers


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    data = bytearray(encoded(noise()))
    data[100:140] = bytes(40)
    (tmp_path / "d.png").write_bytes(data)
    assert "damaged" in refusal(tmp_path / "d.png")


def test_too_large_is_told_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (8000, 7000)).save(path)

    def decode(*_: object) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    assert "8000 x 7000 pixels is too large; 50 megapixels are allowed" in refusal(path)


def test_decompression_bomb(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(bomb)
    assert bomb.stat().st_size < 200_000
    assert "too large" in refusal(bomb)
    assert "too large" in refusal(bomb, max_pixels=10**10), "Pillow's own limit stands as well"


def test_max_pixels_is_a_limit_that_is_allowed(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    assert load_picture(tmp_path / "a.png", max_pixels=40 * 24).width == 40
    assert "too large" in refusal(tmp_path / "a.png", max_pixels=40 * 24 - 1)


@pytest.mark.parametrize("size", [(7, 100), (100, 7), (1, 1)])
def test_tiny(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "t.png")
    assert f"t.png: {size[0]} x {size[1]} pixels is too small" in refusal(tmp_path / "t.png")
    with pytest.raises(PictureError, match="too small"):
        Picture.from_image(Image.new("RGB", size), "x")


@pytest.mark.parametrize("form", [f for f in ("GIF", "PNG", "WEBP", "TIFF") if f in FORMATS])
def test_animated_and_many_pages(tmp_path: Path, form: str) -> None:
    frames = [noise(seed=i) for i in range(3)]
    frames[0].save(tmp_path / "a", format=form, save_all=True, append_images=frames[1:])
    line = refusal(tmp_path / "a")
    assert "holds 3 pages" in line if form == "TIFF" else "holds 3 frames (animated)" in line


def test_a_phone_photo_with_a_preview_is_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    noise().save(path, format="MPO", save_all=True, append_images=[noise(seed=1)])
    with Image.open(path) as raw:
        assert raw.format == "MPO" and getattr(raw, "n_frames", 1) == 2
    noise().save(tmp_path / "alone.jpg")
    assert load_picture(path) == load_picture(tmp_path / "alone.jpg")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_gives_a_picture_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(sorted(FORMATS)))
    content = bytearray(encoded(noise(12, 10), form))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    path = tmp_path / "fuzzed"
    path.write_bytes(content)
    try:
        picture = load_picture(path, max_pixels=1_000_000)
    except PictureError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert picture.image.mode == "RGB" and len(picture.image.tobytes()) == picture.width * picture.height * 3


def test_folder_is_sorted_and_without_duplicates(tmp_path: Path) -> None:
    noise(seed=2).save(tmp_path / "b.PNG")
    noise(seed=1).save(tmp_path / "a.bmp")
    noise(seed=2).save(tmp_path / "c.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._a.png").write_bytes(b"left by a file manager")
    (tmp_path / "deeper").mkdir()
    noise(seed=3).save(tmp_path / "deeper" / "d.png")
    (tmp_path / "broken.jpg").write_bytes(b"broken")
    problems: list[str] = []
    assert [p.name for p in load_folder(tmp_path, problems)] == ["a.bmp", "b.PNG"]
    assert len(problems) == 2
    assert "broken.jpg: not a picture" in problems[0] and "c.png: the same picture as b.PNG" in problems[1]


def test_folder_warns_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise().save(tmp_path / "a.png")
    (tmp_path / "b.png").touch()
    with caplog.at_level(logging.WARNING):
        assert len(load_folder(tmp_path)) == 1
    assert "b.png: the file is empty" in caplog.text


def test_folder_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="no pictures in this folder"):
        load_folder(tmp_path)
    (tmp_path / "b.png").touch()
    with pytest.raises(PictureError, match=r"none of the 1 pictures can be read; the first: .*b\.png"):
        load_folder(tmp_path)
    with pytest.raises(PictureError, match="not a folder"):
        load_folder(tmp_path / "b.png")
    with pytest.raises(PictureError, match="no such folder"):
        load_folder(tmp_path / "none")
    with pytest.raises(PictureError, match="cannot be read"):
        load_folder("a\0b")


def test_save_makes_folders_and_says_what_stops_it(tmp_path: Path) -> None:
    picture = Picture.from_image(noise(), "x")
    assert load_picture(picture.save(tmp_path / "new" / "p.jpg")) == picture
    with pytest.raises(PictureError, match="cannot be written"):
        picture.save(tmp_path / "new" / "p.jpg" / "q.png")


def test_augment_is_seeded() -> None:
    picture = Picture.from_image(noise(64, 48), "photo.jpg")
    four = augment(picture, 4, seed=1)
    assert four == augment(picture, 6, seed=1)[:4]
    assert len({picture, *four, *augment(picture, 4, seed=2)}) == 9
    assert {(p.width, p.height) for p in four} == {(64, 48)}
    assert [p.name for p in four[:2]] == ["photo.jpg (variation 1)", "photo.jpg (variation 2)"]
    assert augment(picture, 0, seed=1) == []


def test_augment_still_shows_the_picture() -> None:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize(
        (128, 96), Image.Resampling.BICUBIC
    )
    picture = Picture.from_image(smooth, "x")
    other = Picture.from_image(smooth.rotate(180), "y")

    def likeness(a: Picture, b: Picture) -> float:
        return float(np.corrcoef(np.asarray(a.image).ravel(), np.asarray(b.image).ravel())[0, 1])

    for varied in augment(picture, 8, seed=3):
        assert likeness(picture, varied) > max(0.3, likeness(other, varied) + 0.1)


def test_augment_mirrors_only_if_allowed() -> None:
    half = Image.new("RGB", (64, 64), "white")
    half.paste("black", (0, 0, 32, 64))
    picture = Picture.from_image(half, "x")

    def mirrored(varied: Picture) -> bool:
        left, right = (np.asarray(varied.image.crop(b)).mean() for b in ((0, 0, 20, 64), (44, 0, 64, 64)))
        return bool(left > right)

    assert not any(mirrored(p) for p in augment(picture, 20, seed=0))
    assert 4 <= sum(mirrored(p) for p in augment(picture, 20, seed=0, flip=True)) <= 16


def test_augment_fills_corners_with_the_border() -> None:
    white = Image.new("RGB", (64, 64), "white")
    white.paste("red", (24, 24, 40, 40))
    for varied in augment(Picture.from_image(white, "x"), 10, seed=0):
        corner = np.asarray(varied.image)[0, 0]
        assert corner.min() > 150, "a black corner would be a mark to learn"


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (1, -1)])
def test_augment_refuses_negative_numbers(n: int, seed: int) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        augment(Picture.from_image(noise(), "x"), n, seed)


def test_a_large_photo_is_varied_at_a_working_size() -> None:
    photo = Picture.from_image(Image.new("RGB", (4000, 3000), "teal"), "photo.jpg")
    assert {(p.width, p.height) for p in augment(photo, 2, seed=0)} == {(1024, 768)}


@pytest.mark.parametrize(
    ("size", "small"),
    [((1024, 10), (1024, 10)), ((3000, 4000), (768, 1024)), ((40_000, 20), (16_000, 8)), ((2000, 8), (2000, 8))],
)
def test_reduced_keeps_the_shape_and_what_is_small_enough(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert reduced(Image.new("RGB", size)).size == small


def test_the_smallest_picture_can_be_augmented() -> None:
    assert augment(Picture.from_image(noise(8, 8), "x"), 1, seed=0)[0].width == 8


def test_picture_errors_are_the_users() -> None:
    assert issubclass(PictureError, UnseeError)
