"""Variations of a picture: of its size, drawn by the seed, each another picture."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from unsee.data.pictures import Picture
from unsee.data.variations import variations

CIRCLE, OTHERS = draw("circle"), [draw("square"), draw("cross", 1, side=48)]


def pixels(picture: Picture) -> np.ndarray:
    return np.asarray(picture.image.convert("RGB"))


@pytest.mark.parametrize("others", [[], OTHERS])
def test_they_are_of_the_pictures_size_and_all_different(others: list[Picture]) -> None:
    found = variations([CIRCLE], others, 24, seed=0)
    assert len({p.sha256 for p in found}) == 24 and CIRCLE.sha256 not in {p.sha256 for p in found}
    assert {(p.width, p.height) for p in found} == {(CIRCLE.width, CIRCLE.height)}


def test_a_picture_of_one_colour_has_few() -> None:
    grey = Picture.from_image(Image.new("RGB", (16, 16), "#808080"), "grey")
    assert 0 < len(variations([grey], [], 24, seed=0)) <= 24


def test_the_seed_decides() -> None:
    one, again, other = (variations([CIRCLE], OTHERS, 12, seed) for seed in (3, 3, 4))
    assert [p.sha256 for p in one] == [p.sha256 for p in again] != [p.sha256 for p in other]


def test_all_pictures_are_varied_in_turn() -> None:
    pictures = [CIRCLE, draw("triangle")]
    names = [p.name.partition(",")[0] for p in variations(pictures, [], 12, seed=0)]
    assert set(names) == {p.name for p in pictures}


def test_none_are_asked_for() -> None:
    assert variations([CIRCLE], OTHERS, 0, seed=0) == []


def test_colours_change_and_shapes_stay() -> None:
    """A recoloured circle has its edges where the circle had them, or their mirror image."""
    first = pixels(variations([CIRCLE], [], 1, seed=1)[0])
    ground = (pixels(CIRCLE) == pixels(CIRCLE)[0, 0]).all(-1)
    same = (first == first[0, 0]).all(-1)
    assert max((same == ground).mean(), (same[:, ::-1] == ground).mean()) > 0.95
    assert np.abs(first.astype(int) - pixels(CIRCLE)).mean() > 5


def test_a_large_photo_is_varied_at_a_working_size() -> None:
    """Sixty of a phone's 12 megapixels would take 2 GB."""
    photo = Picture.from_image(Image.linear_gradient("L").resize((3000, 4000)), "photo.jpg")
    assert {(p.width, p.height) for p in variations([photo], [photo, *OTHERS], 12, seed=0)} == {(768, 1024)}
