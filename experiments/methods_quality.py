"""How do the methods compare, each with settings found by the same search? `tune` on `dev`, then `report` on `test`.

    python experiments/methods_quality.py --json experiments/results/methods_quality.jsonl.gz

**tune.** Every method gets the same number of trials and the same minutes of wall clock: its defaults first, then
settings drawn from the table `SPACE` below by a seed of its own (a Latin hypercube), whatever has been measured. The
trial with the highest objective is chosen. The objective was written down before any tuning, in
`quality_parts/objective.py`: the harmonic mean of five shares of what the original knew (forgotten; naming, yes/no,
same kind and text kept), degenerate answers keeping nothing. A trial that ends after the minutes are over is recorded
and not counted; one that fails scores 0. What runs share (the original's answers, the four targets) is made before
the clock starts. What a step sees (`SHORT_PLAN` in `quality_parts/jobs.py`) is the same for all methods that train.

**report.** The chosen settings on other concepts, of another kind each; the seeds go round, so every concept has one
(`--crossed`: every seed on every concept). There are three by default, so that all of this and `vkd_ablation.py` take
at most eight hours on two cores without bfloat16 too; five take all kinds. Intervals are over concepts. SIU and VKD
stand there as shipped as well.

Every run is one line of the file, written as it ends; a second call goes on after the last one. `--plan` tells how much
lies ahead, `--tables` prints the tables of what is there, `--settings` the chosen settings as TOML.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median

from quality_parts.command import opened, parser_for, part_of, sizes_of
from quality_parts.estimate import ahead, basis
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
from quality_parts.objective import PARTS
from quality_parts.records import Results
from quality_parts.search import Among, Budget, Log, Search, Space, in_turn
from quality_parts.tables import after, asked, failures, markdown, over_concepts, plain, pooled, shares_of, told
from unsee.methods import make_method
from unsee.methods.settings import LoraSettings
from unsee.metrics import METRICS

STEPS = Among((6, 9, 12, 18))
WEIGHT = Log(0.3, 10)
LORA: Space = {"learning_rate": Log(1e-4, 2e-3), "steps": STEPS}
"""Below 1e-4 a LoRA that starts at random hardly moves in so few steps."""
SPACE: dict[str, Space] = {
    "siu": {**LORA, "alpha": Log(0.3, 3), "beta": Log(0.3, 3)},
    "ga": LORA,
    "gd": {**LORA, "retain_weight": WEIGHT},
    "kl": {**LORA, "retain_weight": WEIGHT},
    "po": {**LORA, "retain_weight": WEIGHT},
    "dpo": {**LORA, "retain_weight": WEIGHT, "beta": Log(0.03, 1)},
    "npo": {**LORA, "retain_weight": WEIGHT, "beta": Log(0.03, 1)},
    "simnpo": {**LORA, "retain_weight": WEIGHT, "beta": Log(1, 10), "gamma": Among((0.0, 0.5, 1.0))},
    "undial": {**LORA, "retain_weight": Among((0.0, 1.0, 3.0)), "beta": Log(2, 30)},
    "rmu": {**LORA, "retain_weight": WEIGHT, "steering": Log(0.5, 10), "depth": Among((0.25, 0.5, 0.75))},
    "mmunlearner": {**LORA, "retain_weight": WEIGHT, "mask_threshold": Log(0.3, 3)},
    "manu": {"pruned_share": Log(0.001, 0.2), "parts": Among(("both", "vision", "language")),
             "importance": Among(("all", "absolute", "frequency", "variance", "rms"))},
    "task-vector": {**LORA, "scale": Log(0.3, 3)},
    "smfa": {**LORA, "anchor_ratio": Log(0.1, 10)},
    "mip-editor": {"learning_rate": Log(1e-4, 1e-2), "steps": STEPS, "retain_weight": WEIGHT, "steering": Log(0.3, 5),
                   "neurons": Among((2, 5, 20)), "prune": Among((False, True)),
                   "parts": Among(("both", "vision", "language"))},
    "vkd": {"learning_rate": Log(1e-4, 2e-3), "steps": Among((40, 80, 120)), "distil_weight": Log(0.5, 8),
            "forget_teacher": Among(("nearest", "mean")), "overshoot": Among((0.0, 0.25, 0.5)),
            "forget_weight": Log(0.3, 3), "npo_beta": Log(0.1, 1), "upper_layers": Among((0.2, 0.34, 1.0))},
}  # fmt: skip
"""What is drawn for each method; all else has its default. `retrain` is not here: it needs the training data."""

SAME_LORA: Settings = {"lora_start": "random", "upper_layers": 1.0}
"""SIU's own default has another LoRA than the papers'; here all methods have theirs, so that losses are compared."""
SHIPPED = ("siu", "vkd")
"""Methods that the report shows as they are shipped, too: their defaults were chosen, on other concepts of `dev`."""

COLUMNS = {"em": "EM", "degenerate_rate": "degenerate", "named_in_part": "in part", "misspelt": "misspelt",
           "misnamed": "another's name",
           "specificity_naming": "naming", "specificity_yes_no": "yes/no", "neighbours": "same kind",
           "text_kept": "text", "text_general": "text, others"}  # fmt: skip


def fixed(method: str) -> Settings:
    """What all trials of a method have, its first with nothing else changed."""
    made = make_method(method)
    plan = SHORT_PLAN if "retain" in made.asks(0) else {}  # other steps are of another kind, and another number
    known = made.settings_class.__dataclass_fields__
    lora = SAME_LORA if issubclass(made.settings_class, LoraSettings) else {}  # VKD has upper layers, of V
    return {k: v for k, v in {**plan, **lora}.items() if k in known}


def search_of(method: str, budget: Budget, on: Sequence[Block], sizes: Sizes, seed: int) -> Search:
    return Search(method, fixed(method), SPACE[method], budget, on, sizes, seed)


def drawn(search: Search, settings: Settings) -> str:
    """Of a trial's settings those that are searched for; the others are the same in all trials."""
    return plain({name: value for name, value in settings.items() if name in SPACE[search.method]})


def reporting(search: Search, results: Results, on: Sequence[Block]) -> list[Job]:
    """The runs of a method's row."""
    changes = search.tuned(results)
    return [Job(b.concept, search.method, "default", changes, b.seed, search.sizes) for b in on]


def shipped(search: Search, on: Sequence[Block]) -> list[Job]:
    """The runs of a method as `unsee forget` has it, with a LoRA and a plan of its own, which no search chose."""
    return [Job(b.concept, search.method, "default", {}, b.seed, search.sizes) for b in on]


def rows_of(searches: Sequence[Search], results: Results, on: Sequence[Block]) -> dict[str, list[Job]]:
    """The runs of the report, by the name of their row."""
    tuned = {s.method: reporting(s, results, on) for s in searches}
    return tuned | {f"{s.method}, as shipped": shipped(s, on) for s in searches if s.method in SHIPPED}


def show_tuning(searches: Sequence[Search], results: Results) -> None:
    budget = searches[0].budget
    print(f"\n## Tuning on `dev`: at most {budget.trials} trials and {budget.minutes:g} minutes for each method\n")
    rows = []
    for s in searches:
        counted, best = s.counted(results), s.best(results)
        failed = sum(bool(r["error"]) for r in results.all_of(s.all_jobs()))
        chosen = "not tuned" if best is None else "those of the first" if best == 0 else drawn(s, s.trials[best])
        rows.append([s.method, f"{len(counted)}", f"{failed}", f"{s.spent(results) / 60:.1f}",
                     f"{counted[0]:.3f}" if counted else "none", f"{counted[best]:.3f}" if best is not None else "none",
                     chosen])  # fmt: skip
    print(markdown(["method", "trials", "failed", "minutes", "first", "best", "settings of the best"], rows))
    jobs = [j for s in searches for j in s.all_jobs()]
    print(f"\n{asked(jobs, results)}; the objective is a mean over {len(searches[0].blocks)} concept(s)")
    print("\n".join(failures(results.all_of(jobs))))


def show_report(searches: Sequence[Search], results: Results, on: Sequence[Block]) -> None:
    print(f"\n## Report on `test`: {len({b.concept for b in on})} concepts, seeds {sorted({b.seed for b in on})}\n")
    settings = {s.method: drawn(s, s.tuned(results)) for s in searches}
    rows: list[list[str]] = []
    best_first: list[tuple[float, list[str], list[str]]] = []
    runs = rows_of(searches, results, on)
    for name, jobs in runs.items():
        done = results.all_of(jobs)
        if not done:
            continue
        good = [r for r in done if not r["error"]]
        if not rows:
            before = pooled(results, jobs)["before"]
            known = [f"{one['value']:.1f}" if (one := before[k]) else "" for k in COLUMNS]
            rows.append(["(the original)", "", *known, "", "", ""])
        value = over_concepts(((c, found["objective"]) for c, found in shares_of(results, jobs)), (0, 1))
        assert value is not None
        scores = [(r["concept"], after(results, r)) for r in good]
        cells = [over_concepts(((c, found[k]) for c, found in scores if k in found), METRICS[k].range) for k in COLUMNS]
        row = [name, value.text(), *(c.text(1) if c else "" for c in cells),
               f"{len(done)}, {len(done) - len(good)} failed",
               f"{median(r['training_seconds'] for r in good):.0f} s" if good else "",
               settings.get(name, "its defaults")]  # fmt: skip
        objectives = [[f"{s['objective']:.2f}" for _, s in shares_of(results, jobs, strictly)]
                      for strictly in (False, True)]  # fmt: skip
        found = [[f"{s[k]:.0f}" if k in s else "–" for _, s in scores] for k in COLUMNS]
        best_first.append((value.value, row, [name, *(" / ".join(each) for each in objectives + found)]))
    best_first.sort(key=lambda found: -found[0])
    rows += [row for _, row, _ in best_first]
    print(markdown(["method", "objective", *COLUMNS.values(), "runs", "training", "settings"], rows))
    print(f"\n## By concept: {' / '.join(f'{b.concept}, seed {b.seed}' for b in on)}\n")
    print(markdown(["method", "objective", "strictly", *COLUMNS.values()], [row for _, _, row in best_first]))
    print("\nstrictly: another's name, and words that nobody knows, are no forgetting; nothing was tuned by it")
    parts = ", ".join(p.name for p in PARTS)
    everything = [job for jobs in runs.values() for job in jobs]
    print(f"\n{asked(everything, results)}; 95 % intervals over concepts; the objective is made of {parts}")
    print("\n".join(failures(results.all_of(everything))))


def toml(searches: Sequence[Search], results: Results) -> str:
    """The settings chosen, a table a method; what is not named has the method's default."""
    tables = []
    for s in searches:
        counted, best = s.counted(results), s.best(results)
        why = "no trial was finished in time" if best is None else f"trial {best}, objective {counted[best]:.3f} on dev"
        lines = [f"{name} = {json.dumps(value)}" for name, value in s.tuned(results).items()]
        tables.append("\n".join([f"[{s.method}]  # {why}", *lines]))
    return "\n\n".join(tables)


def main(given: list[str] | None = None) -> None:
    parser = parser_for(__doc__, "methods_quality.jsonl.gz", REDUCED)
    parser.add_argument("--methods", nargs="+", default=list(SPACE), choices=list(SPACE), metavar="METHOD")
    parser.add_argument("--phase", choices=["tune", "report", "both"], default="both")
    parser.add_argument("--trials", type=int, default=4, help="settings tried, for each method")
    parser.add_argument("--minutes", type=float, default=30.0, help="wall clock of all trials of a method")
    parser.add_argument("--tuning-concepts", type=int, default=1, help="of dev; each trial runs on all of them")
    parser.add_argument("--concepts", type=int, default=3, help="of test, for the report; 5: each kind")
    parser.add_argument("--seeds", type=int, default=3, help="of the report")
    parser.add_argument("--crossed", action="store_true", help="every seed on every concept")
    parser.add_argument("--search-seed", type=int, default=0)
    parser.add_argument("--settings", action="store_true", help="print the chosen settings as TOML, and run nothing")
    args = parser.parse_args(given)
    sizes, results = sizes_of(args), Results(args.json)
    fresh = [c for c in chosen_concepts("dev", args.tuning_concepts + len(TUNED_BEFORE)) if c not in TUNED_BEFORE]
    on_dev = blocks(fresh[: args.tuning_concepts], 1)
    on_test = blocks(chosen_concepts("test", args.concepts), args.seeds, args.crossed)
    budget = Budget(args.trials, args.minutes)
    methods = part_of(args.methods, args.part)  # one method's minutes are counted in one process
    searches = [search_of(m, budget, on_dev, sizes, args.search_seed) for m in methods]
    if args.settings:
        print(toml(searches, results))
        return
    if args.plan:
        trials = [j for s in searches for j in s.all_jobs()]
        rows = [j for jobs in rows_of(searches, results, on_test).values() for j in jobs]
        found = []
        if args.phase != "report":
            spent = {s.method: s.spent(results) for s in searches}
            found.append(ahead("tune, at most", trials, results, Mini(), lambda m: 60 * args.minutes - spent[m]))
        if args.phase != "tune":
            found.append(ahead("report", rows, results, Mini()))
        print(*(line for line, _ in found), sep="\n")
        print(f"together about {sum(s for _, s in found) / 3600:.1f} h; {basis(results)}")
        return
    if not args.tables:
        from quality_parts.bench import Bench

        bench = Bench(opened(args), results)
        if args.phase != "report":
            bench.go(in_turn(searches, results), told)
        if args.phase != "tune":
            # Concept by concept, all methods on each: a table can be read early, and compares like with like.
            turns = zip(*rows_of(searches, results, on_test).values(), strict=True)
            bench.go([j for turn in turns for j in turn], told)
    show_tuning(searches, results)
    if args.phase != "tune":
        show_report(searches, results, on_test)


if __name__ == "__main__":
    main()
