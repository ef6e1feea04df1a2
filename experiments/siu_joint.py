"""How many concepts can SIU forget in one training? 1, 2, 5, 10 and all 19 concepts of `test`, on one picture each.

    python experiments/siu_joint.py --json experiments/results/siu_joint.jsonl.gz

A run forgets its concepts together, as `unsee forget --requests` does: one training, one adapter. The kinds go in turn,
and larger sets hold the smaller ones. Each concept is asked about as if it were alone; a question that is asked for
several of them counts once. Intervals are over the subjects of a run, those forgotten or those to be kept, not over
seeds.

Every run is one line of the file, written as it ends; a second call goes on after the last one and prints the table
from what is there. Settings come from the `dev` split (`--split dev`).
"""

from __future__ import annotations

from collections.abc import Sequence

from quality_parts.command import opened, parser_for, part_of, sizes_of, value_of
from quality_parts.estimate import ahead, basis
from quality_parts.jobs import REDUCED, Job, Mini, chosen_concepts, jointly
from quality_parts.records import Results
from quality_parts.tables import BY_CONCEPT, cell, failures, markdown, told
from unsee.metrics import Answer, summarise_run

COUNTS = (1, 2, 5, 10, 19)
EACH = ("em_naming", "em_yes_no")
KEPT = ("specificity_naming", "specificity_yes_no", "neighbours", "text_kept")


def table(results: Results, jobs: Sequence[Job]) -> str:
    """A row a run."""
    rows = []
    for job in jobs:
        record = results.of(job)
        if record is None or record["error"]:
            continue
        before = [results.original(c, job.sizes) or {"answers": []} for c in job.concepts]
        said = [Answer(**a) for one in (*before, record) for a in one["answers"]]
        found = summarise_run(said)
        by_concept = found.get("concepts", {job.concept: found})  # of one alone there are no parts
        each = {concept: [scores["after"][k]["value"] for k in EACH] for concept, scores in by_concept.items()}
        shown = [
            *(found["after"][k] for k in ("em", "degenerate_rate", "misnamed")),
            *(found["change"][k] for k in KEPT),
        ]
        rows.append([str(len(job.concepts)), str(len(record["loss"])), str(job.seed), *map(cell, shown),
                     "; ".join(f"{concept} {name:.0f} / {yes_no:.0f}" for concept, (name, yes_no) in each.items()),
                     f"{record['training_seconds']:.0f} s"])  # fmt: skip
    head = [
        "concepts",
        "steps",
        "seed",
        "EM",
        "degenerate",
        "another's name",
        *(f"{BY_CONCEPT[k]}, change" for k in KEPT),
    ]
    return markdown([*head, "EM of each, name / yes or no", "training"], rows)


def main(given: list[str] | None = None) -> None:
    parser = parser_for(__doc__, "siu_joint.jsonl.gz", REDUCED)
    parser.add_argument("--split", default="test")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="of concepts forgotten together")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, changes the default preset")
    args = parser.parse_args(given)
    changes = {k: value_of(v) for k, v in (s.split("=", 1) for s in args.set)}
    sets = [jointly(chosen_concepts(args.split, n)) for n in args.counts]
    jobs = [Job(names, "siu", "default", changes, seed, sizes_of(args)) for seed in range(args.seeds) for names in sets]
    results = Results(args.json)
    if args.plan:
        print(ahead("SIU", jobs, results, Mini())[0], basis(results), sep="\n")
        return
    if not args.tables:
        from quality_parts.bench import Bench

        Bench(opened(args), results).go(part_of(jobs, args.part), told)
    print(f"## SIU, several concepts of `{args.split}` at once\n\n{table(results, jobs)}")
    print("\n".join(failures(results.all_of(jobs))))


if __name__ == "__main__":
    main()
