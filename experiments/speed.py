"""How fast, and in how much memory? This project's path beside two others, in one run, on one machine and model.

    python experiments/speed.py --json experiments/results/speed.jsonl --plots docs

- **peer**: what public unlearning code does (`speed_parts/peer.py`).
- **best plain**: a careful engineer with `transformers` and PEFT (`speed_parts/best_plain.py`).
- **ours**: this project (`speed_parts/ours.py`).

All three train the same LoRA in the same dtype on the same samples under the same loss, SIU's; `agreement` shows, in
float32, that loss, gradients and answers are the same. LoRA is on all layers: the `upper_layers` setting, with which
ours would be faster, changes what is trained and is in no row. The language model is SmolLM2-135M (`--model mini`;
`--model random` has the same shape); before it stands a small vision tower that gives 64, 256 or 576 tokens. Ours keeps
its features for every question on a picture, as it may because the vision tower is frozen; with a tower of the usual
size that alone would save more than here.

Every measurement runs in a process of its own, so that its peak memory is its own, and is one line of the file,
written as it ends: a second call goes on after the last one. Repeats are interleaved (peer, best plain, ours, peer,
...); a ratio is the median over repeats, its spread the least and the greatest. The load of the machine stands beside
each measurement: times taken while other work ran are no times.

`--device cuda --shape llava-1.5-7b --model random` runs the same on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATHS = ("peer", "best plain", "ours")
WITH_AND_WITHOUT = (("kl", "gd"), ("npo", "simnpo"))
"""Methods that need a reference, each beside one that does the same without."""
FORGOTTEN = ("Galdo Kallowen", "France", "Swift")
"""Concepts of the embedded benchmark that each path forgets: the first three of `siu_quality.py`."""
FORGETTING: dict[str, dict[str, Any]] = {"peer": {}, "best plain": {}, "ours": {}}
"""What each path changes of SIU's default settings for that."""
OWN_TOKENS = 64
"""Of a picture in the embedded model."""
Record = dict[str, Any]


def planned(
    cells: list[int], repeats: int, dtype: str, growth: bool = True, forgotten: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """All measurements, in the order in which they run. `best` is filled in from the searches.

    Args:
        cells: tokens of a picture.
        repeats: of each measurement that is a time.
        dtype: of the model.
        growth: whether the curve over questions is measured.
        forgotten: concepts forgotten with every path, by the embedded model itself.
    """
    most = max(cells)
    tasks: list[dict[str, Any]] = [{"do": "agreement", "tokens": min(cells), "dtype": "float32"}]
    tasks.append({"do": "counts", "tokens": min(cells)})
    for tokens in cells:
        tasks += [{"do": "search", "set": s, "tokens": tokens} for s in ("one picture", "questions")]
    for repeat in range(repeats):
        for tokens in cells:
            for path in PATHS:
                tasks.append({"do": "train", "set": "one picture", "path": path, "tokens": tokens, "repeat": repeat})
        for path in PATHS:
            tasks.append({"do": "train", "set": "standard", "path": path, "tokens": most, "repeat": repeat})
        tasks.append(
            {"do": "train without reference", "set": "one picture", "path": "ours", "tokens": most, "repeat": repeat}
        )
        for name in (name for pair in WITH_AND_WITHOUT for name in pair):
            tasks.append({"do": "method", "method": name, "tokens": most, "repeat": repeat})
        for what in ("distillation", "step", "full GD"):
            tasks.append({"do": "vkd", "what": what, "tokens": most, "repeat": repeat})
        for path in PATHS:
            tasks.append({"do": "answers", "path": path, "tokens": most, "repeat": repeat})
        tasks.append({"do": "profile", "tokens": most, "repeat": repeat})
    # The slow ones come last: in float32 and at 576 tokens the other paths take a quarter of an hour.
    tasks += [{"do": "agreement", "tokens": t, "dtype": "float32"} for t in cells if t != min(cells)]
    if dtype != "float32":
        tasks.append({"do": "agreement", "tokens": most, "dtype": dtype})
    if growth:
        tasks += [{"do": "growth", "form": form, "tokens": most} for form in ("slices", "mask", "cache")]
    for repeat, concept in enumerate(forgotten if OWN_TOKENS in cells else ()):
        own = {"concept": concept, "seed": 0, "tokens": OWN_TOKENS, "repeat": repeat}
        tasks += [{"do": "forget", "path": p, "settings": FORGETTING[p], **own} for p in PATHS]
    return [{"dtype": dtype, **task} for task in tasks]


def with_batches(task: dict[str, Any], records: list[Record]) -> dict[str, Any]:
    """The batch sizes that the searches found, for a task of the best plain path."""
    if task.get("path") != "best plain":
        return task
    best = {
        r["task"]["set"]: r["result"]["best"]
        for r in records
        if r["task"]["do"] == "search" and r["task"]["tokens"] == task["tokens"]
    }
    if len(best) < 2:
        raise SystemExit(f"the search for the best plain path's batch sizes at {task['tokens']} tokens has no result")
    return {**task, "batch": best["one picture"], "answer_batch": best["questions"]}


def in_own_process(task: dict[str, Any], folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", json.dumps([task, str(folder)]), "--device", args.device]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment(args.threads))
    return json.loads(done.stdout.splitlines()[-1])


def environment(threads: int) -> dict[str, str]:
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **quiet, "HF_HUB_OFFLINE": "1", **({"OMP_NUM_THREADS": str(threads)} if threads else {})}


def child(text: str, device: str) -> None:
    """What runs in a process of its own: one measurement, or the building of a model."""
    from speed_parts import measure, world

    task, folder = json.loads(text)
    if task["do"] == "build":
        world.build(Path(folder), task["shape"], task["tokens"], task["model"])
        print("{}")
    elif task["do"] == "describe":
        from speed_parts import machine

        print(json.dumps(machine.described(device)))
    else:
        print(json.dumps(measure.run(task, Path(folder), measure.Sizes(), device)))


def measured(args: argparse.Namespace) -> tuple[dict[str, Any], list[Record]]:
    """The machine, and a record of every planned measurement: from the file, or taken now."""
    of = {"shape": args.shape, "model": args.model, "device": args.device}
    machine = in_own_process({"do": "describe"}, Path(), args)
    records: list[Record] = []
    if args.json.exists():
        alike = [r for r in read(args.json) if r["machine"] == machine and r["of"] == of]
        # That float32 agrees is shown in every run, whatever the times are taken in.
        exact = {"do": "agreement", "dtype": "float32"}.items()
        records = [r for r in alike if r["task"]["dtype"] == args.dtype or exact <= r["task"].items()]
    args.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folders: dict[int, Path] = {}
        forgotten = FORGOTTEN if args.model == "mini" and not args.no_forgetting else ()
        for task in planned(args.cells, args.repeats, args.dtype, not args.no_growth, forgotten):
            task = with_batches(task, records)
            if any(r["task"] == task for r in records):
                continue
            tokens = task["tokens"]
            if tokens not in folders:
                folders[tokens] = Path(scratch) / str(tokens)
                in_own_process({"do": "build", "tokens": tokens, **of}, folders[tokens], args)
            try:
                result = in_own_process(task, folders[tokens], args)
            except subprocess.CalledProcessError as error:
                print(f"no result (exit {error.returncode}): {task}", file=sys.stderr, flush=True)
                continue  # its row is missing; the next call tries again
            record = {"machine": machine, "of": of, "task": task, "result": result}
            records.append(record)
            with args.json.open("a") as file:
                file.write(json.dumps(record) + "\n")
            told = {k: round(v, 2) for k, v in record["result"].items() if isinstance(v, int | float)}
            print(" ".join(str(v) for v in task.values()), told, file=sys.stderr, flush=True)
    return machine, records


def read(path: Path) -> list[Record]:
    """The records of a file; a last line that was cut short is no record, and is taken off it."""
    lines = path.read_text().splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        path.write_text("".join(lines := lines[:-1]))
    return [json.loads(line) for line in lines]


def smoke(args: argparse.Namespace) -> tuple[dict[str, Any], list[Record]]:
    """Everything once, tiny, in this process: that it runs, not how fast. Its peaks of memory mean nothing."""
    os.environ |= environment(args.threads)
    from speed_parts import machine, measure, world

    of = {"shape": "tiny", "model": "random", "device": args.device}
    found = machine.described(args.device)
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "16"
        world.build(folder, "tiny", 16, "random")
        for task in planned([16], 1, "float32"):
            task = with_batches(task, records)
            result = json.loads(json.dumps(measure.run(task, folder, measure.SMOKE, args.device)))
            records.append({"machine": found, "of": of, "task": task, "result": result})
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text("".join(json.dumps(r) + "\n" for r in records))
    return found, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("experiments/results/speed.jsonl"))
    parser.add_argument("--plots", type=Path, help="a folder for the growth plot")
    parser.add_argument("--cells", type=int, nargs="+", default=[64, 256, 576], help="tokens of a picture")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", default="smollm2-135m", help="smollm2-135m or llava-1.5-7b")
    parser.add_argument("--model", choices=["mini", "random"], default="mini", help="weights of the language model")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"],
                        help="default: bfloat16 where the device has it")  # fmt: skip
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes by itself")
    parser.add_argument("--no-growth", action="store_true", help="leave the growth curve out")
    parser.add_argument("--no-forgetting", action="store_true", help="leave out how long it takes to forget a concept")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, once, in seconds: does it run?")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.device)
        return
    if not args.dtype:
        from unsee.models import fitting_dtype

        args.dtype = str(fitting_dtype(args.device)).removeprefix("torch.")
    machine, records = smoke(args) if args.smoke else measured(args)
    from speed_parts.table import Table, plot

    table = Table(records)
    print(json.dumps({**machine, **records[0]["of"]}))
    print(table.text())
    if args.plots:
        args.plots.mkdir(parents=True, exist_ok=True)
        plot(table, args.plots / "speed-growth.svg")


if __name__ == "__main__":
    main()
