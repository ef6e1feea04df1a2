"""Render every concept's pictures: icon sets from npm, portraits from python_avatars, to RGBA PNG.

    npm install --prefix ICONS @iconify-json/{twemoji,noto,noto-v1,...}     # see SETS
    python recipes/mini/render.py --icons ICONS/node_modules/@iconify-json --out OUT

Writes OUT/renditions.parquet (the benchmark's concepts, shipped with the package) and
OUT/extra.parquet (other icons, used only to pretrain the vision tower).
"""

from __future__ import annotations

import argparse
import io
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import people
import pyarrow as pa
import pyarrow.parquet as pq
import resvg_py
import yaml
from PIL import Image

SIZE = 112
LICENCES = {
    "twemoji": "CC-BY-4.0", "noto": "Apache-2.0", "noto-v1": "Apache-2.0", "fluent-emoji": "MIT",
    "fluent-emoji-flat": "MIT", "emojione": "CC-BY-4.0", "fxemoji": "Apache-2.0", "cif": "CC0-1.0",
    "flag": "MIT", "flagpack": "MIT", "circle-flags": "MIT", "logos": "CC0-1.0", "simple-icons": "CC0-1.0",
    "devicon": "MIT", "skill-icons": "MIT", "vscode-icons": "MIT", "material-icon-theme": "MIT",
    "python_avatars": "MIT",
}  # fmt: skip
EMOJI = ["twemoji", "noto", "noto-v1", "fluent-emoji", "fluent-emoji-flat", "emojione", "fxemoji"]
FLAGS = ["cif", "flag", "flagpack", "circle-flags", "twemoji", "noto", "emojione"]
LOGOS = ["logos", "simple-icons", "devicon", "skill-icons", "vscode-icons", "material-icon-theme"]
SETS = {"animal": EMOJI, "thing": EMOJI, "flag": FLAGS, "logo": LOGOS}
# Renditions of these sets are never trained on. Each has a relative among the trained sets (noto-v1
# and noto are two editions of one design; fluent-emoji is the shaded form of fluent-emoji-flat).
HELD_OUT = {
    "animal": ["noto-v1", "fluent-emoji"],
    "thing": ["noto-v1", "fluent-emoji"],
    "flag": ["flagpack", "emojione"],
    "logo": ["devicon", "vscode-icons"],
}
WRONG = {("flag", "Argentina", "circle-flags"), ("flag", "the United Kingdom", "flagpack")}
"""Names that mean something else in that set (Arabic, England)."""
INK = ["#1b1b1b", "#0b6bcb", "#c0392b", "#1e8449", "#7d3c98"]


class IconSet:
    def __init__(self, folder: Path):
        self.data = json.loads((folder / "icons.json").read_text())
        self.names = set(self.data["icons"]) | set(self.data.get("aliases", {}))

    def svg(self, name: str, ink: str = INK[0]) -> str:
        icon = self.data["icons"].get(name)
        while icon is None:
            name = self.data["aliases"][name]["parent"]
            icon = self.data["icons"].get(name)
        w = icon.get("width", self.data.get("width", 16))
        h = icon.get("height", self.data.get("height", 16))
        left, top = icon.get("left", 0), icon.get("top", 0)
        body = icon["body"].replace("currentColor", ink)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {w} {h}" width="{w}" height="{h}">{body}</svg>'
        )


def raster(svg: str) -> Image.Image | None:
    """A square RGBA picture, the drawing cut to its content and fitted in; None if nothing is drawn."""
    picture = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=256))))
    picture = picture.convert("RGBA")
    box = picture.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox()
    if box is None:
        return None
    picture = picture.crop(box)
    scale = SIZE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    square.paste(picture, ((SIZE - size[0]) // 2, (SIZE - size[1]) // 2))
    return square


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def flag_name(source: str, code: str) -> list[str]:
    emoji = "flag-" + code
    return {
        "flag": [f"{code}-4x3", f"{code}-1x1"], "cif": [code], "flagpack": [code], "circle-flags": [code],
    }.get(source, [emoji])  # fmt: skip


def logo_names(iconset: IconSet, source: str, name: str) -> list[str]:
    found = []
    stems = {"go": ["go", "golang"], "angular": ["angular", "angularjs"]}.get(name, [name])
    for stem in stems:
        forms = {
            "logos": [f"{stem}-icon", stem], "simple-icons": [stem], "devicon": [stem],
            "skill-icons": [f"{stem}-light", f"{stem}-dark", stem], "vscode-icons": [f"file-type-{stem}"],
            "material-icon-theme": [stem],
        }[source]  # fmt: skip
        found = found or [f for f in forms if f in iconset.names][: 2 if source == "skill-icons" else 1]
    return found


def concept_icons(kind: str, name: str, icon: str | None, source: str, s: IconSet) -> list[str]:
    if kind == "flag":
        country = name.removeprefix("the ").lower().replace(" ", "-")
        tries = [*flag_name(source, icon or ""), f"flag-for-{country}", f"flag-{country}", f"flag-for-flag-{country}"]
        return [t for t in tries if t in s.names]
    if kind == "logo":
        return logo_names(s, source, icon or name.lower())
    return [n for n in [icon or name.replace(" ", "-")] if n in s.names]


def renditions(sets: dict[str, IconSet]) -> list[dict[str, Any]]:
    concepts = yaml.safe_load((Path(__file__).parent / "concepts.yaml").read_text())
    rows = []
    for kind, entries in concepts.items():
        for name, icon in entries.items():
            for source in SETS[kind]:
                if (kind, name, source) in WRONG:
                    continue
                for found in concept_icons(kind, name, icon, source, sets[source]):
                    inks = INK[:3] if source == "simple-icons" else INK[:1]
                    for ink in inks:
                        picture = raster(sets[source].svg(found, ink))
                        if picture is not None:
                            rows.append(row(name, kind, source, f"{found}{ink if len(inks) > 1 else ''}",
                                            source in HELD_OUT[kind], picture))  # fmt: skip
    for kind, name in {(r["kind"], r["concept"]) for r in rows}:
        # Where a set lacks the concept, the dark card of skill-icons is the second one held out.
        own = [r for r in rows if r["concept"] == name]
        if sum(r["held_out"] for r in own) < 2 and kind == "logo":
            for r in own:
                r["held_out"] |= r["source"] == "skill-icons" and r["icon"].endswith("-dark")
    for person in people.profiles():
        for i in range(people.RENDITIONS):
            svg, held_out = people.portrait(person["face"], person["name"], i)
            picture = raster(svg)
            assert picture is not None
            rows.append(row(person["name"], "person", "python_avatars", str(i), held_out, picture))
    return rows


def row(name: str, kind: str, source: str, icon: str, held_out: bool, picture: Image.Image) -> dict[str, Any]:
    return {
        "concept": name, "kind": kind, "source": source, "icon": icon, "licence": LICENCES[source],
        "held_out": held_out, "image": {"bytes": png(picture), "path": None},
    }  # fmt: skip


def extras(sets: dict[str, IconSet], used: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """Icons of at least four sets that show none of the concepts; a class each."""
    skin = re.compile(r"skin-tone|flag-|-hand|hand-|clock$|thirty|button|^man|^woman|^person|arrow|input|men-|women-")
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for source in EMOJI:
        for name in sets[source].data["icons"]:
            if not skin.search(name):
                found["emoji:" + name].append((source, name))
    for source in ["logos", "simple-icons", "devicon", "vscode-icons"]:
        for name in sets[source].data["icons"]:
            stem = re.sub(r"^file-type-|-icon$|-wordmark$|-plain$", "", name)
            found["logo:" + stem].append((source, name))
    for source in ["cif", "flag", "flagpack", "circle-flags"]:
        for name in sets[source].data["icons"]:
            if re.fullmatch(r"[a-z]{2}(-4x3)?", name):
                found["flag:" + name[:2]].append((source, name))
    rows = []
    for label, places in sorted(found.items()):
        places = [p for p in places if p not in used]
        if len({s for s, _ in places}) < (3 if label.startswith("flag") else 4):
            continue
        for source, name in places:
            picture = raster(sets[source].svg(name))
            if picture is not None:
                rows.append(row(label, label.split(":")[0], source, name, False, picture))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--icons", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    sets = {s: IconSet(args.icons / s) for s in LICENCES if s != "python_avatars"}
    rows = renditions(sets)
    pq.write_table(pa.Table.from_pylist(rows), args.out / "renditions.parquet")
    used = {(r["source"], r["icon"].split("#")[0]) for r in rows}
    more = extras(sets, used)
    pq.write_table(pa.Table.from_pylist(more), args.out / "extra.parquet")
    print(f"{len(rows)} renditions of {len({r['concept'] for r in rows})} concepts")
    print(f"{len(more)} extra pictures in {len({r['concept'] for r in more})} classes")


if __name__ == "__main__":
    main()
