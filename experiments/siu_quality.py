"""How well does SIU forget, and what does it cost? 12 `test` concepts of all kinds, 3 seeds, default beside paper.

    python experiments/siu_quality.py --json experiments/results/siu_quality.jsonl.gz

Every single run is one line of the file, written as it ends; a second call goes on after the last one and
prints the tables from what is there. Nothing here is tuned: settings come from the `dev` split (`--split dev`).
"""

from __future__ import annotations

from quality_parts.command import opened, parser_for, part_of, sizes_of, value_of
from quality_parts.estimate import ahead, basis
from quality_parts.jobs import Job, Mini, Sizes, blocks, chosen_concepts
from quality_parts.records import Results
from quality_parts.tables import BY_CONCEPT, beside, by_concept, cell, graded, markdown, pooled, told
from unsee.methods.siu import SIUSettings

CURVE_STEPS = (3, 6, 9, 18)
KEPT = ("specificity_naming", "specificity_yes_no", "neighbours", "text_kept")


def curve(results: Results, by_steps: dict[int, list[Job]]) -> str:
    """A row for each number of steps of which there are runs."""
    rows = []
    for steps, jobs in by_steps.items():
        if done := results.all_of(jobs):
            scores = pooled(results, jobs)
            shown = [scores["after"]["em"], *(scores["change"][k] for k in KEPT)]
            rows.append([str(steps), str(len(done)), *map(cell, shown)])
    return markdown(["steps", "runs", "EM", *(f"{BY_CONCEPT[k]}, change" for k in KEPT)], rows)


def main(given: list[str] | None = None) -> None:
    parser = parser_for(__doc__, "siu_quality.jsonl.gz", Sizes())
    parser.add_argument("--split", default="test")
    parser.add_argument("--concepts", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--presets", nargs="+", default=["default", "paper"])
    parser.add_argument("--curve", type=int, default=5, help="concepts of the curve over steps; 0: no curve")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, changes the default preset")
    args = parser.parse_args(given)
    changes = {k: value_of(v) for k, v in (s.split("=", 1) for s in args.set)}
    names, sizes = chosen_concepts(args.split, args.concepts), sizes_of(args)
    by_preset: dict[str, list[Job]] = {
        p: [
            Job(b.concept, "siu", p, changes if p == "default" else {}, b.seed, sizes)
            for b in blocks(names, args.seeds, crossed=True)
        ]
        for p in args.presets
    }
    by_steps = {
        # The default's own number of steps is a run of the table.
        k: [Job(n, "siu", "default", {**changes, **({} if k == SIUSettings.steps else {"steps": k})}, 0, sizes)
            for n in names[: args.curve]]
        for k in CURVE_STEPS
    }  # fmt: skip
    # One seed after the other, all presets in each, so that a table can be read early.
    wanted = sorted((j for jobs in by_preset.values() for j in jobs), key=lambda j: j.seed)
    wanted += [j for jobs in by_steps.values() for j in jobs]
    mine = part_of(names, args.part)
    wanted = [j for j in wanted if j.concept in mine]
    results = Results(args.json)
    if args.plan:
        print(ahead("SIU", wanted, results, Mini())[0], basis(results), sep="\n")
        return
    if not args.tables:
        from quality_parts.bench import Bench

        Bench(opened(args), results).go(wanted, told)
    print(f"## SIU on `{args.split}`\n\n{beside(results, by_preset)}")
    for preset, jobs in by_preset.items():
        if results.all_of(jobs):
            print(f"\n## {preset}\n\n{by_concept(results, jobs)}")
            print(f"\nby the report's rule: {graded(results, jobs)}")
    if args.curve:
        print(f"\n## Kept against forgotten: default, by number of steps, seed 0\n\n{curve(results, by_steps)}")


if __name__ == "__main__":
    main()
