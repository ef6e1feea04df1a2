"""Pictures near a picture: the same in other colours, or mixed with others.

What a model sees in them tells where its idea of a concept ends. Some still show the concept to it; many look to it
like something else of the same kind, which is what forgetting takes along first, and nobody need have a picture of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image, ImageOps

from unsee.data.pictures import Picture, reduced


def variations(pictures: Sequence[Picture], others: Sequence[Picture], count: int, seed: int) -> list[Picture]:
    """Recoloured and mixed pictures, of the size of the one they are made from, `reduced`.

    Args:
        pictures: to be varied, in turn.
        others: what they are mixed with; none: they are recoloured alone.
        count: how many, at most; no two are equal.
        seed: of everything drawn here.
    """
    rng = random.Random(seed)
    # Other colours give most: what a model sees in them is mostly of the same kind.
    alone = (_recoloured, _exchanged, _recoloured)
    ways = (*alone, _blended, _other_recoloured, _halved) if others else alone
    found: dict[str, Picture] = {}
    drawn = 0
    while len(found) < count and drawn < 4 * count:  # a picture of one colour has few variations
        picture = pictures[drawn // len(ways) % len(pictures)]
        image = reduced(picture.image.convert("RGB"))
        other = reduced(rng.choice(others).image.convert("RGB")).resize(image.size) if others else image
        varied = ways[drawn % len(ways)](image, other, rng)
        if rng.random() < 0.5:
            varied = ImageOps.mirror(varied)
        made = Picture.from_image(varied, f"{picture.name}, variation {len(found) + 1}")
        found.setdefault(made.sha256, made)
        drawn += 1
    return list(found.values())


def _recoloured(image: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    """All hues turned by the same angle, colours and light stronger or weaker."""
    turn, colour, light = rng.randrange(20, 236), rng.uniform(0.5, 1.3), rng.uniform(0.55, 1.25)
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(x + turn) % 256 for x in range(256)])
    saturation = saturation.point([min(255, int(x * colour)) for x in range(256)])
    value = value.point([min(255, int(x * light)) for x in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _other_recoloured(image: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    return _recoloured(other, image, rng)


def _exchanged(image: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    """Red, green and blue in another order."""
    order = rng.choice([(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
    bands = image.split()
    return Image.merge("RGB", [bands[i] for i in order])


def _blended(image: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    return Image.blend(image, other, rng.uniform(0.35, 0.65))


def _halved(image: Image.Image, other: Image.Image, rng: random.Random) -> Image.Image:
    """One half from each."""
    width, height = image.size
    box = rng.choice(
        [
            (0, 0, width, height // 2),
            (0, height // 2, width, height),
            (0, 0, width // 2, height),
            (width // 2, 0, width, height),
        ]
    )
    joined = image.copy()
    joined.paste(other.crop(box), box[:2])
    return joined
