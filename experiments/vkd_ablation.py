"""Which of VKD's parts matter? One factor at a time, and a small factorial for their interactions, on `dev` alone.

    python experiments/vkd_ablation.py --json experiments/results/vkd_ablation.jsonl.gz

VKD is a reconstruction (`src/unsee/methods/vkd.py`): the paper's constants are not public, so its defaults have to come
from numbers. `FACTORS` and `ALONE` below list what can be told otherwise. Each of them is changed alone, and the first
two levels of `FACTORS` stand in half of all 16 combinations (2^(4-1), resolution IV: main effects are clear of each
other and of interactions of two; those are measured in sums of two, which the table names). Every condition is run on
the same blocks, a concept and a seed each, and compared inside them; the seeds go round over the concepts (`--crossed`:
every seed on every concept). Intervals are Student's over concepts.

Measured are the objective of `methods_quality.py` (see `quality_parts/objective.py`), the same where another's name is
no forgetting, the share forgotten, that of answers with another's name, and the mean of the four shares kept. A run
that fails counts as 0 in all of them and is listed. Every run is one line of the file; a second call goes on after the
last one. `--set` changes the settings around which all is varied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from quality_parts.command import opened, parser_for, part_of, sizes_of, value_of
from quality_parts.estimate import ahead, basis
from quality_parts.factorial import Row, effect, fraction, mixed, resolution
from quality_parts.jobs import (
    REDUCED,
    SHORT_PLAN,
    TUNED_BEFORE,
    Block,
    Job,
    Mini,
    Settings,
    Sizes,
    blocks,
    chosen_concepts,
)
from quality_parts.objective import KEPT, scored
from quality_parts.records import Results
from quality_parts.tables import after, asked, failures, markdown, over_concepts, plain, told
from unsee.mini.data import mini_data


@dataclass(frozen=True)
class Factor:
    """Something that VKD can be told otherwise.

    Args:
        name: in tables.
        setting: of `VKDSettings`.
        levels: the default, the one that the factorial puts against it, and others that are tried alone.
    """

    name: str
    setting: str
    levels: tuple[Any, ...]


FACTORS = (
    Factor("teacher", "forget_teacher", ("nearest", "mean", "pruned")),
    Factor("depth", "depth", (0, 5)),
    Factor("mask", "mask_threshold", (0.0, 1.0)),
    Factor("forget loss", "forget_loss", ("npo", "none", "ga")),
)
ALONE = (
    Factor("neuron mask", "neuron_threshold", (0.0, 1.0)),
    Factor("projector", "projector", (False, True)),
    Factor("distance", "distance", ("mse", "cosine")),
    Factor("moved", "moved", (True, False)),
    Factor("overshoot", "overshoot", (0.25, 0.0)),
    Factor("upper layers", "upper_layers", (0.34, 1.0)),
)
"""Changed alone, too; in no combination."""
DESIGN = fraction(3, [(0, 1, 2)])
"""forget loss = teacher x depth x mask: 8 rows, VKD's default among them."""

Y = ("objective", "strictly", "forgotten", "another's name", "kept")
BY_CONCEPT = ("forgotten", "another's name", "kept")


def ablated(count: int) -> list[str]:
    """Concepts of `dev`: a person, since people are the hardest, then those first that no default was found on."""
    everything = len(mini_data().of("dev"))
    person, *others = chosen_concepts("dev", everything)
    return [person, *sorted(others, key=TUNED_BEFORE.__contains__)][:count]


class Ablation:
    """The conditions, their runs, and what came of them.

    Args:
        around: settings that all conditions have.
        on: the blocks.
        sizes: of the questions.
        results: the file.
    """

    def __init__(self, around: Settings, on: Sequence[Block], sizes: Sizes, results: Results):
        self.around, self.on, self.sizes, self.results = around, on, sizes, results
        self.alone: dict[str, Settings] = {
            f"{f.name}: {level}": {f.setting: level} for f in FACTORS + ALONE for level in f.levels[1:]
        }
        self.rows: dict[Row, Settings] = {
            row: {f.setting: f.levels[1] for f, sign in zip(FACTORS, row, strict=True) if sign > 0} for row in DESIGN
        }

    def job(self, changes: Settings, block: Block) -> Job:
        return Job(block.concept, "vkd", "default", {**self.around, **changes}, block.seed, self.sizes)

    def named(self) -> dict[str, Settings]:
        """All conditions, by what they change; one that the factorial shares with the others stands once."""
        found: dict[str, Settings] = {"default": {}, **self.alone}
        for row, changes in self.rows.items():
            if changes not in found.values():
                pairs = zip(FACTORS, row, strict=True)
                found["; ".join(f"{f.name}: {f.levels[1]}" for f, sign in pairs if sign > 0)] = changes
        return found

    def jobs(self) -> list[Job]:
        """All runs, one block after the other, so that a block is whole early; what is asked for twice is run once."""
        return list({j.key: j for b in self.on for c in self.named().values() for j in [self.job(c, b)]}.values())

    def outcome(self, changes: Settings, block: Block) -> dict[str, float] | None:
        """What was measured in a condition; None where it has not been run yet."""
        record, original = self.results.of(self.job(changes, block)), self.results.original(block.concept, self.sizes)
        if record is None or original is None:
            return None
        found = scored(record, original)
        return {
            **found,
            "strictly": scored(record, original, strictly=True)["objective"],
            "another's name": 0.0 if record["error"] else after(self.results, record)["misnamed"] / 100,
            "kept": fmean(found[k] for k in KEPT if k in found),
        }

    def values(self, changes: Settings, y: str, against: Settings | None = None) -> list[tuple[str, float]]:
        """(concept, value) of the blocks that have it, less the value of another condition in the same block."""
        found = []
        for block in self.on:
            here, there = self.outcome(changes, block), self.outcome(against or {}, block)
            if here is not None and (against is None or there is not None):
                found.append((block.concept, here[y] - (there[y] if against is not None and there else 0.0)))
        return found

    def effects(self, columns: Sequence[int], y: str) -> list[tuple[str, float]]:
        """(concept, effect) of the blocks in which every row of the factorial was run."""
        found = []
        for block in self.on:
            cells = {row: self.outcome(changes, block) for row, changes in self.rows.items()}
            whole = {row: cell[y] for row, cell in cells.items() if cell is not None}
            if len(whole) == len(cells):
                found.append((block.concept, effect(whole, columns)))
        return found


def design() -> str:
    """The rows of the factorial, as they are run."""
    head = ["row", *(f.name for f in FACTORS)]
    rows = [
        [str(i), *(str(f.levels[s > 0]) for f, s in zip(FACTORS, row, strict=True))] for i, row in enumerate(DESIGN)
    ]
    return markdown(head, rows)


def _cells(found: Sequence[list[tuple[str, float]]], least: float = -1.0) -> list[str]:
    """Means of shares, or of their changes, which may be as low as -1."""
    means = [over_concepts(values, (least, 1.0)) for values in found]
    return [m.text() if m else "not measured yet" for m in means]


def _by_concept(ablation: Ablation, changes: Settings) -> list[str]:
    """Of one condition, what `BY_CONCEPT` names on each concept; the mean of its seeds."""
    found = {y: ablation.values(changes, y) for y in BY_CONCEPT}
    cells = []
    for concept in dict.fromkeys(block.concept for block in ablation.on):
        for y in BY_CONCEPT:
            here = [value for name, value in found[y] if name == concept]
            cells.append(f"{fmean(here):.2f}" if here else "not measured yet")
    return cells


def show(ablation: Ablation) -> None:
    results, jobs = ablation.results, ablation.jobs()
    print(f"\n## One factor at a time, around {plain(ablation.around)}\n")
    rows = [["default", *_cells([ablation.values({}, y) for y in Y], 0.0), ""]]
    for name, changes in ablation.alone.items():
        change = ablation.values(changes, "objective", against={})
        rows.append([name, *_cells([ablation.values(changes, y) for y in Y], 0.0), *_cells([change])])
    print(markdown(["condition", *Y, "objective, change"], rows))
    print(f"\n## Main effects, from {len(DESIGN)} combinations of resolution {resolution(DESIGN)}\n")
    rows = [
        [f.name, f"{f.levels[0]} to {f.levels[1]}", *_cells([ablation.effects([i], y) for y in Y])]
        for i, f in enumerate(FACTORS)
    ]
    print(markdown(["factor", "levels", *Y], rows))
    print("\n## Interactions; those in one line cannot be told apart\n")
    rows = [
        [" + ".join(f"{FACTORS[a].name} × {FACTORS[b].name}" for a, b in pairs),
         *_cells([ablation.effects(pairs[0], y) for y in Y])]
        for pairs in mixed(DESIGN)
    ]  # fmt: skip
    print(markdown(["interaction", *Y], rows))
    print("\n## By concept\n")
    concepts = dict.fromkeys(block.concept for block in ablation.on)
    head = ["condition", *(f"{c}: {y}" for c in concepts for y in BY_CONCEPT)]
    rows = [[name, *_by_concept(ablation, changes)] for name, changes in ablation.named().items()]
    print(markdown(head, rows))
    done = results.all_of(jobs)
    print(f"\n{len(done)} of {len(jobs)} runs, {sum(bool(r['error']) for r in done)} failed; {asked(jobs, results)}")
    print("\n".join(failures(done)))


def main(given: list[str] | None = None) -> None:
    parser = parser_for(__doc__, "vkd_ablation.jsonl.gz", REDUCED)
    parser.add_argument("--concepts", type=int, default=3, help="of dev")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--crossed", action="store_true", help="every seed on every concept")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, for all conditions")
    parser.add_argument("--design", action="store_true", help="print the factorial's rows, and run nothing")
    args = parser.parse_args(given)
    if args.design:
        print(design())
        return
    plan = {k: v for k, v in SHORT_PLAN.items() if k != "steps"}  # VKD has its own number
    around = {**plan, **{k: value_of(v) for k, v in (s.split("=", 1) for s in args.set)}}
    on = blocks(ablated(args.concepts), args.seeds, args.crossed)
    ablation = Ablation(around, on, sizes_of(args), Results(args.json))
    wanted = part_of(ablation.jobs(), args.part)
    if args.plan:
        print(ahead("VKD ablation", wanted, ablation.results, Mini())[0], basis(ablation.results), sep="\n")
        return
    if not args.tables:
        from quality_parts.bench import Bench

        Bench(opened(args), ablation.results).go(wanted, told)
    show(ablation)


if __name__ == "__main__":
    main()
