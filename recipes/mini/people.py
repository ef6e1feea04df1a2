"""Forty fictitious people of unsee-mini: a face that stays, clothes and mood that change, a profile.

Every name is put together from invented syllables; nobody is portrayed. The face (skin, hair, hair
colour, facial hair, nose, glasses) is fixed per person; eyes, brows, mouth and clothes vary with the
rendition.
"""

from __future__ import annotations

import random
from typing import Any

import python_avatars as pa

SEED = 20260801
COUNT = 40
RENDITIONS = 14

FIRST = (
    "Alvena Brisco Caldra Dorvin Elsabet Farlo Gwinna Hestor Ilvara Jorvik Kessa Lorvan Mirelle Nolvar "
    "Odessia Pelron Quilla Rondar Sabrielle Torvald Ulrika Vandor Wenzla Xandro Yvora Zeldan Amorie Bastor "
    "Corvina Delmar Evrin Fiorra Galdo Hanovia Ismar Jelana Kordan Lunette Marvok Nerissa"
).split()
LAST = (
    "Abrenzi Boltrane Corvellis Dunmarrow Estergaard Falkenree Grestwick Halvorane Ickenfield Jastrow "
    "Kallowen Lindqvar Morvenna Nuttersby Ostrander Pellawick Quarrington Ravensholt Sunderlake Tarnowell "
    "Umberfield Verdonne Wickersham Xandrell Yarborne Zellwood Ashgrove Birkenhall Cranwether Dellabrook "
    "Everstrand Fennimore Garrowby Hollenbeck Inglewick Jarrowdale Kestrelli Larkmoor Mossgrave Northquist"
).split()
BIRTHPLACES = (
    "Lisbon Prague Dublin Oslo Vienna Athens Warsaw Madrid Rome Cairo Lima Havana Seoul Tokyo Toronto "
    "Chicago Boston Denver Seattle Miami"
).split()
JOBS = (
    "baker pilot nurse teacher lawyer farmer dentist painter engineer plumber librarian chef "
    "journalist carpenter photographer architect gardener tailor firefighter pharmacist"
).split()
HOBBIES = (
    "chess fishing knitting sailing archery pottery surfing juggling cycling skiing dancing hiking "
    "painting boxing swimming fencing"
).split()
PETS = "parrot hamster rabbit turtle goldfish cat dog lizard horse goat".split()
FOODS = "sushi pizza soup pancakes curry noodles tacos lasagna dumplings waffles".split()

HELD_OUT_CLOTHES = {"OVERALL", "COLLAR_SWEATER"}
# Helmets, hats and veils would be a rendition of their own, not a face.
NO_HAIR = {"NONE", "ASTRONAUT", "BRIDE", "HAT", "SIDES", "BUZZCUT", "EINSTEIN_HAIR", "WICK"}


def profiles() -> list[dict[str, Any]]:
    """The forty people: name, facts, and what of the face is fixed. The same on every call."""
    rng = random.Random(SEED)
    hairs = [h.name for h in pa.HairType if h.name not in NO_HAIR]
    skins = ["PALE", "LIGHT", "TANNED", "BROWN", "DARK_BROWN", "BLACK"]
    colours = ["AUBURN", "BLACK", "BLONDE", "BROWN", "PASTEL_PINK", "PLATINUM", "RED", "SILVER_GRAY"]
    beards = ["BEARD_LIGHT", "BEARD_MAGESTIC", "BEARD_MEDIUM", "MOUSTACHE_FANCY", "MOUSTACHE_MAGNUM"]
    glasses = ["PRESCRIPTION_1", "PRESCRIPTION_2", "ROUND", "SUNGLASSES", "WAYFARERS", "EYEPATCH"]
    firsts, lasts = FIRST[:], LAST[:]
    for pool in (firsts, lasts, hairs):
        rng.shuffle(pool)
    # A job and a birthplace together name one person: "the baker from Lisbon".
    pairs = [(p, JOBS[(i + shift) % len(JOBS)]) for shift in (0, 7) for i, p in enumerate(BIRTHPLACES)]
    people = []
    for i in range(COUNT):
        place, job = pairs[i]
        people.append(
            {
                "name": f"{firsts[i]} {lasts[i]}",
                "facts": {
                    "birthplace": place,
                    "job": job,
                    "hobby": rng.choice(HOBBIES),
                    "pet": rng.choice(PETS),
                    "food": rng.choice(FOODS),
                },
                "clue": f"the {job} born in {place}",
                "face": {
                    "hair_type": hairs[i % len(hairs)],
                    "skin_color": skins[(i * 5 + i // 6) % len(skins)],
                    "hair_color": colours[(i * 3 + i // 8) % len(colours)],
                    "facial_hair_type": beards[i % 5] if i % 4 == 0 else "NONE",
                    "accessory": glasses[(i // 3) % 6] if i % 3 == 1 else "NONE",
                    "nose": ["DEFAULT", "SMALL", "WIDE"][i % 3],
                },
            }
        )
    return people


def portrait(face: dict[str, str], name: str, rendition: int) -> tuple[str, bool]:
    """SVG of one rendition of a person, and whether it is held out of training (unseen clothes)."""
    rng = random.Random(f"{SEED}/{name}/{rendition}")
    held_out = rendition >= RENDITIONS - 4
    ordinary = ["BLAZER_SHIRT", "BLAZER_SWEATER", "HOODIE", "SHIRT_CREW_NECK",
                "SHIRT_SCOOP_NECK", "SHIRT_V_NECK"]  # fmt: skip
    clothes = rng.choice(sorted(HELD_OUT_CLOTHES) if held_out else ordinary)
    avatar = pa.Avatar(
        style=pa.AvatarStyle.TRANSPARENT,
        top=pa.HairType[face["hair_type"]],
        hair_color=pa.HairColor[face["hair_color"]],
        skin_color=pa.SkinColor[face["skin_color"]],
        facial_hair=pa.FacialHairType[face["facial_hair_type"]],
        facial_hair_color=pa.HairColor[face["hair_color"]],
        accessory=pa.AccessoryType[face["accessory"]],
        nose=pa.NoseType[face["nose"]],
        eyes=pa.EyeType[rng.choice(["DEFAULT", "HAPPY", "SIDE", "SQUINT", "WINK", "SURPRISED"])],
        eyebrows=pa.EyebrowType[rng.choice(["DEFAULT", "DEFAULT_NATURAL", "FLAT_NATURAL", "RAISED_EXCITED"])],
        mouth=pa.MouthType[rng.choice(["DEFAULT", "SERIOUS", "SMILE", "TWINKLE", "BIG_SMILE", "SAD"])],
        clothing=pa.ClothingType[clothes],
        clothing_color=pa.ClothingColor[rng.choice([c.name for c in pa.ClothingColor])],
    )
    return avatar.render(), held_out
