"""Write docs/data-card.md from the shipped data, so that its counts are those of the files.

python recipes/mini/data_card.py > docs/data-card.md
"""

from __future__ import annotations

import json
from collections import Counter

from unsee.mini.data import FILES, SPLITS, mini_data

HEAD = """# Data card of unsee-mini

Drawn pictures of animals, things, flags and logos (published icon sets) and of fictitious people (generated portraits
with invented profiles), composed on drawn backgrounds from a seed: placed, turned by up to 22 degrees, scaled to 0.55
to 1.0 of the frame, stretched, tinted, with faint noise. 96 x 96 pixels, JPEG. Licences: MIT, Apache-2.0, CC0, CC-BY:
[ATTRIBUTION](../src/unsee/mini/files/ATTRIBUTION.md).

**Training and test never share a picture.** Of every concept some renditions (icon sets, or clothes of a person) are
held out of all training; half of its test pictures are compositions of those, half are new compositions of trained
renditions. Held-out sets have a relative among the trained ones (`noto-v1` is an older edition of `noto`,
`fluent-emoji` the shaded form of `fluent-emoji-flat`), so the held-out half is unseen, but not of another world.

**Only what the model knows can be forgotten.** 56 test pictures are drawn of every candidate; a concept is in the
benchmark only if the original model names it on at least 95 % of them, and the pictures it fails on are then dropped.
Text questions that it answers wrongly are dropped likewise. The numbers below count what was drawn and what was named.
"""


def main() -> None:
    data = mini_data()
    print(HEAD)
    kinds = Counter(c.concept.kind for c in data.concepts.values())
    drawn = sum(c.tested for c in data.concepts.values())
    named = sum(c.named for c in data.concepts.values())
    print(f"{len(data.concepts)} concepts are in; of their {drawn} test pictures the original names {named}.\n")
    print("| kind | " + " | ".join(SPLITS) + " | all |")
    print("|---|" + "---|" * (len(SPLITS) + 1))
    for kind, count in sorted(kinds.items()):
        print(f"| {kind} | " + " | ".join(str(len(data.of(s, kind))) for s in SPLITS) + f" | {count} |")  # type: ignore[arg-type]
    print(
        "\n`dev` is for all tuning, `test` for all reported forgetting, `protected` may be trained on to hold the rest,"
    )
    print("`utility` is what Specificity is measured on. The splits are disjoint in concepts. Beside them stand")
    print(
        f"{len(data.generic)} `generic` concepts that the model knows less well: nothing is measured on them, but what"
    )
    print(
        "it says of their pictures may be held in place too. The splits were not kept apart throughout: five things in"
    )
    print("SIU were mended after runs on `test`, and VKD's defaults were also tried on four people of `utility`.\n")
    raw = {r["name"]: r for r in json.loads((FILES / "concepts.json").read_text())}
    print("| concept | kind | split | named / drawn | text questions known / asked |")
    print("|---|---|---|---|---|")
    for name, c in sorted(data.concepts.items(), key=lambda x: (x[1].concept.kind, x[1].split, x[0])):
        asked = raw[name]["questions_asked"]
        print(f"| {name} | {c.concept.kind} | {c.split} | {c.named} / {c.tested} | {len(c.questions)} / {asked} |")


if __name__ == "__main__":
    main()
