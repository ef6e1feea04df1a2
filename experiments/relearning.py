"""Does what was unlearned come back? Relearning and reload, on models that unsee made forget; a first look.

    python experiments/relearning.py --json experiments/results/relearning.jsonl.gz

For each concept and seed: the original model, and that model made to forget by SIU and by VKD (reconstructed), with
their default presets, the adapter merged in. Each of the three is measured

- as it is;
- **relearn**: after a fine-tune on a share of the concept's pool;
- **control**: after a fine-tune with the same steps, samples and settings, but on other concepts. What it brings back
  is no knowledge of the concept;
- **reload** (not the original): with the original's projector P, vision tower V, or both put back, no training.

*The pool.* The mini data have 12 training-side pictures a concept. The first is the request's, the 11 others are the
pool; 10 questions each (4 ask for the name, 6 whether the concept is shown), in words that no test uses, with the
original's own answers where they are right: up to 110 samples. 1, 5, 20 and 50 % of them are 1, 6, 22 and 55; the
larger shares hold the smaller ones (2 and 10 %, 2 and 11 samples, by `--shares 1 2 5 10 20 50`). The control's pool is
made likewise of pictures of `protected` concepts that unlearning did not hold. That neither shares a picture with the
test is checked by hash at every run.

*The fine-tune.* A fresh LoRA on all of W (SIU's rank) and a copy of P, whatever the method had moved: an attacker does
not know. `--side vision`: V and P instead; only both together compare methods that moved different parts. 20 steps
of 4 samples, Adam, one learning rate; all arms alike. None of this was tuned for strength.

*Measured.* On 25 test pictures of the concept: is it named, is it confirmed (and denied on as many of others of its
kind: yes to everything is right half of the time). On 25 pictures of `utility` concepts: are they named, is yes or no
said rightly, so that a wrecked model is seen. 95 % intervals are Student's over concepts.

*What it cannot say.* Any model can be taught a name. Whether an unlearned model learns it faster than one that never
knew needs that model (gold), which is not there yet: the curve of the original and the control stand in.

Every measurement is one line of the file, written as it ends; a second call goes on after the last one and prints the
tables from what is there. Where a call goes on in the middle of a model, that model is unlearned again, from the same
seed; each line has the hash of its weights. Settings are tuned with `--split dev`, reported on `test`.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from quality_parts.command import add_model, add_part, dtype_of, opened, part_of
from quality_parts.jobs import Job, chosen_concepts
from quality_parts.records import append, read
from relearning_parts.attacked import ORIGINAL, Arm, Pools, Row, arms_of, attacked, settings_of
from relearning_parts.cases import Case, mini_case
from relearning_parts.curves import draw, score, tables
from unsee.attacks.relearn import RelearnSettings
from unsee.errors import TrainingError
from unsee.models import VisionLanguageModel

SHARES = (1.0, 5.0, 20.0, 50.0)
MODELS = (ORIGINAL, "siu", "vkd")


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Args:
        models: "original" and methods.
        seeds: how many, from 0.
        shares: of the pool, in per cent.
        attack: settings of the fine-tune.
        unlearning: by method, settings that are not its defaults.
        dtype: of the models.
    """

    models: tuple[str, ...] = MODELS
    seeds: int = 1
    shares: tuple[float, ...] = SHARES
    attack: RelearnSettings = field(default_factory=RelearnSettings)
    unlearning: dict[str, dict[str, Any]] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32

    def changes(self, model: str) -> dict[str, Any]:
        return self.unlearning.get(model, {})


def key(row: Row) -> str:
    """What makes two lines the same measurement; a setting that there was not yet has its default."""
    settings = dict(row["settings"])
    if row["model"] != ORIGINAL:
        settings["unlearning"] = {**Job(row["concept"], row["model"]).defaults, **settings["unlearning"]}
    parts = ("concept", "model", "seed", "arm", "share", "part")
    return json.dumps([*(row[part] for part in parts), settings], sort_keys=True)


class Clock:
    """What is spent on each kind of work, and what it lets expect of the rest."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def note(self, kind: str, seconds: float) -> None:
        self.spent.setdefault(kind, []).append(seconds)

    def left(self, kinds: Sequence[str]) -> float:
        """Seconds that work of these kinds will take.

        A kind not seen so far counts as the mean of all others: an unlearning, which takes longer, as too little.
        """
        usual = mean(s for some in self.spent.values() for s in some)
        return sum(mean(self.spent.get(kind, [usual])) for kind in kinds)

    def told(self, kinds: Sequence[str]) -> str:
        new = sorted({k for k in kinds if k.startswith("unlearn") and k not in self.spent})
        hint = f", and more for {' and '.join(new)}, not timed yet" if new else ""
        return f"about {self.left(kinds) / 60:.0f} minutes for the {len(kinds)} pieces of work left{hint}"


def run(
    plan: Plan,
    cases: Sequence[Case],
    open_model: Callable[[], VisionLanguageModel],
    path: Path,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Measure what the file does not have yet, line by line.

    Args:
        plan: what is measured on each case.
        cases: concepts.
        open_model: gives a fresh original model.
        path: the file; a line is added as each measurement ends.
        say: told of each line, and how long the rest will take.

    Returns:
        The lines of this plan and these cases, those of earlier calls included.
    """
    have = {key(r): r for r in read(path)}
    wanted: dict[tuple[int, str, str], list[tuple[Arm, str]]] = {}
    for seed, case, model in itertools.product(range(plan.seeds), cases, plan.models):
        about = {"concept": case.name, "model": model, "seed": seed}
        about["settings"] = settings_of(case, model, plan.attack, plan.changes(model), plan.dtype)
        wanted[seed, case.name, model] = [
            (arm, key({**about, "arm": arm.name, "share": arm.share, "part": arm.part}))
            for arm in arms_of(model, plan.shares)
        ]
    pending = {unit: [arm for arm, k in arms if k not in have] for unit, arms in wanted.items()}
    pending = {unit: arms for unit, arms in pending.items() if arms}
    clock, pools, by_name = Clock(), Pools(), {case.name: case for case in cases}
    todo = [kind for unit, arms in pending.items() for kind in _kinds(unit[2], arms)]
    for (seed, name, model), arms in pending.items():

        def spent(kind: str, seconds: float) -> None:
            clock.note(kind, seconds)
            todo.remove(kind)

        given = plan.attack, plan.changes(model), pools, spent
        try:
            for row, arm in zip(attacked(open_model, by_name[name], model, seed, arms, *given), arms, strict=True):
                append(path, row)
                have[key(row)] = row
                spent(str(arm), row["seconds"])
                named, others = (score([row], k) for k in ("naming", "others_naming"))
                if row["error"]:
                    say(f"{name:20} seed {seed} {model:9} {arm!s:20} failed: {row['error']}")
                    continue
                say(
                    f"{name:20} seed {seed} {model:9} {arm!s:20} {row['samples']:3d} samples {row['seconds']:5.0f} s  "
                    f"named {named.value if named else float('nan'):5.1f} %, "
                    f"others {others.value if others else float('nan'):5.1f} %"
                )
                if arm is arms[0] and todo:
                    say(f"  {clock.told(todo)}")
        except TrainingError as error:  # it would happen again; the others go on
            say(f"{name:20} seed {seed} {model:9} failed: {error}")
        gc.collect()  # a model refers to itself; two of them at once are one too many
    return [have[k] for arms in wanted.values() for _, k in arms if k in have]


def _kinds(model: str, arms: Sequence[Arm]) -> list[str]:
    return [*([] if model == ORIGINAL else [f"unlearn {model}"]), *map(str, arms)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("experiments/results/relearning.jsonl.gz"))
    parser.add_argument("--plot", type=Path, default=Path("docs/relearning.svg"),
                        help="drawn when all is measured, not by a part")  # fmt: skip
    parser.add_argument("--split", default="test")
    parser.add_argument("--concepts", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=list(MODELS), metavar="MODEL", help='"original" and methods')
    parser.add_argument("--shares", nargs="+", type=float, default=list(SHARES), help="per cent of the pool")
    parser.add_argument("--steps", type=int, default=RelearnSettings.steps)
    parser.add_argument("--side", choices=RelearnSettings.choices["side"], default=RelearnSettings.side,
                        help="what the fine-tune trains: a LoRA on W, or V; P in both")  # fmt: skip
    parser.add_argument("--no-projector", action="store_true", help="without P")
    parser.add_argument("--learning-rate", type=float, default=RelearnSettings.learning_rate)
    parser.add_argument("--test-pictures", type=int, default=25, help="of the concept, and of others of its kind")
    parser.add_argument("--utility-pictures", type=int, default=25, help="of concepts of all kinds")
    add_model(parser)
    add_part(parser)
    args = parser.parse_args()
    attack = RelearnSettings(
        side=args.side, projector=not args.no_projector, steps=args.steps, learning_rate=args.learning_rate
    )
    plan = Plan(tuple(args.models), args.seeds, tuple(args.shares), attack, dtype=dtype_of(args))
    names = part_of(chosen_concepts(args.split, args.concepts), args.part)
    if not names:
        parser.error(f"there is no concept for part {args.part[0]} of {args.part[1]}: --concepts is {args.concepts}")
    methods = [m for m in args.models if m != ORIGINAL]
    cases = [mini_case(name, args.test_pictures, args.utility_pictures, methods) for name in names]
    rows = run(plan, cases, lambda: opened(args), args.json, lambda line: print(line, flush=True))
    print("\n" + tables(rows))
    if args.part[1] == 1:
        draw(rows, args.plot)
        print(f"\nthe curves are drawn in {args.plot}")


if __name__ == "__main__":
    main()
