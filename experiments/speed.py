"""How fast, and in how much memory? This project's path beside two others, in one run, on one machine and model.

    python experiments/speed.py --json experiments/results/speed.jsonl --plots docs

- **peer**: what public unlearning code does (`speed_parts/peer.py`).
- **best plain**: a careful engineer with `transformers` and PEFT (`speed_parts/best_plain.py`).
- **ours**: this project (`speed_parts/ours.py`).

All three train the same LoRA in the same dtype on the same samples under the same loss, SIU's; `agreement` shows, in
float32, that loss, gradients and answers are the same. What suits the best plain path on the machine (size of batches,
how attention is computed, whether inputs are cast) is searched for first. LoRA is on all layers: the `upper_layers`
setting, with which ours would be faster, is only where a concept is forgotten, and there in all paths. The model is the
embedded one (`--model mini`; `--model random` has the same shape), its vision tower's patches made smaller for 256 and
576 tokens.

Every measurement runs in a process of its own, so that its peak memory is its own, and is one line of the file,
written as it ends: a second call goes on after the last one, and the table tells of which commits the records are.
Repeats are interleaved (peer, best plain, ours, peer, ...); a ratio is the median over repeats, its spread the least
and the greatest. The load of the machine stands beside each measurement: times taken while other work ran are no times.

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
CACHED = "best plain, prompt cached"
"""A fourth way to answer: the best plain path, the beginning of all prompts run once, by hand."""
WITH_AND_WITHOUT = (("kl", "gd"), ("npo", "simnpo"))
"""Methods that need a reference, each beside one that does the same without."""
PEAKS = 5
"""Repeats of what tells the memory of a reference, at least: differences of a hundredth are looked for."""
FORGOTTEN = ("Galdo Kallowen", "France", "Swift")
"""Concepts of the embedded benchmark that each path forgets: the first three of `siu_quality.py`."""
FORGETTING: dict[str, dict[str, Any]] = {"peer": {}, "best plain": {}, "ours": {}}
"""What each path changes of SIU's default settings for that: nothing. Steps of fewer samples, which would suit paths
that share no prefix, reach the goals on `dev` and miss them on `test` (docs/trials.md)."""
OWN_TOKENS = 64
"""Of a picture in the embedded model."""
Record = dict[str, Any]


def planned(
    cells: list[int], repeats: int, dtype: str, growth: bool = True, forgotten: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """All measurements, in the order in which they run. What the best plain path is to be is filled in from searches.

    Args:
        cells: tokens of a picture.
        repeats: of each measurement that is a time.
        dtype: of the model.
        growth: whether the curve over questions is measured.
        forgotten: concepts forgotten with every path, by the embedded model itself.
    """
    most = max(cells)
    tasks: list[dict[str, Any]] = [{"do": "search", "set": "one picture", "tokens": tokens} for tokens in cells]
    tasks += [{"do": "search", "set": s, "tokens": most} for s in ("questions", "questions, prompt cached")]
    for repeat in range(repeats):
        for tokens in cells:
            for path in PATHS:
                tasks.append({"do": "train", "set": "one picture", "path": path, "tokens": tokens, "repeat": repeat})
        for path in PATHS:
            tasks.append({"do": "train", "set": "standard", "path": path, "tokens": most, "repeat": repeat})
        tasks += of_a_reference(most, repeat)
        for what in ("distillation", "step", "full GD", "full GD, best plain"):
            tasks.append({"do": "vkd", "what": what, "tokens": most, "repeat": repeat})
        for path in ("peer", "best plain", CACHED, "ours"):
            tasks.append({"do": "answers", "path": path, "tokens": most, "repeat": repeat})
        tasks.append({"do": "profile", "tokens": most, "repeat": repeat})
    for repeat in range(repeats, PEAKS if repeats > 1 else repeats):
        tasks.append({"do": "train", "set": "one picture", "path": "ours", "tokens": most, "repeat": repeat})
        tasks += of_a_reference(most, repeat)
    if growth:
        tasks += [{"do": "growth", "form": form, "tokens": most} for form in ("slices", "mask", "cache")]
    for repeat, concept in enumerate(forgotten if OWN_TOKENS in cells else ()):
        own = {"concept": concept, "seed": 0, "tokens": OWN_TOKENS, "repeat": repeat}
        tasks += [{"do": "forget", "path": p, "changes": FORGETTING[p], **own} for p in PATHS]
    # No times from here on. The slow ones come last: the other paths answer in float32 for a quarter of an hour.
    tasks.append({"do": "counts", "tokens": min(cells)})
    tasks += [{"do": "agreement", "tokens": tokens, "dtype": "float32"} for tokens in cells]
    if dtype != "float32":
        tasks.append({"do": "agreement", "tokens": most, "dtype": dtype})
    return [{"dtype": dtype, **task} for task in tasks]


def of_a_reference(tokens: int, repeat: int) -> list[dict[str, Any]]:
    """What is measured of ours with and without a reference, beside a pass with SIU's."""
    without = {"do": "train without reference", "set": "one picture", "path": "ours"}
    methods = [{"do": "method", "method": name} for pair in WITH_AND_WITHOUT for name in pair]
    return [{**task, "tokens": tokens, "repeat": repeat} for task in (without, *methods)]


def with_settings(task: dict[str, Any], records: list[Record]) -> dict[str, Any]:
    """What the searches found, for a task of the best plain path."""
    path = task.get("path", task.get("what", "")).removeprefix("full GD, ")
    if path not in ("best plain", CACHED):
        return task
    sets = {"answers": "questions, prompt cached" if path == CACHED else "questions"}
    wanted = {"do": "search", "set": sets.get(task["do"], "one picture"), "tokens": task["tokens"]}
    found = [r["result"]["best"] for r in records if wanted.items() <= r["task"].items()]
    if not found:
        raise SystemExit(
            f"what suits the best plain path ({wanted['set']}, {task['tokens']} tokens) was not searched for"
        )
    return {**task, "settings": found[-1]}


def in_own_process(task: dict[str, Any], folder: Path, args: argparse.Namespace) -> Any:
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

        print(json.dumps([machine.described(device), machine.revision()]))
    else:
        print(json.dumps(measure.run(task, Path(folder), measure.Sizes(), device)))


def measured(args: argparse.Namespace) -> tuple[dict[str, Any], list[Record]]:
    """The machine, and a record of every planned measurement: from the file, or taken now."""
    of = {"shape": args.shape, "model": args.model, "device": args.device}
    machine, code = in_own_process({"do": "describe"}, Path(), args)
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
        tasks = []
        for task in planned(args.cells, args.repeats, args.dtype, not args.no_growth, forgotten):
            task = with_settings(task, records)
            tasks.append(task)
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
            record = {"machine": machine, "of": of, "code": code, "task": task, "result": result}
            records.append(record)
            with args.json.open("a") as file:
                file.write(json.dumps(record) + "\n")
            told = {k: round(v, 2) for k, v in record["result"].items() if isinstance(v, int | float)}
            print(" ".join(str(v) for v in task.values()), told, file=sys.stderr, flush=True)
    return machine, [r for r in records if r["task"] in tasks]


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
            task = with_settings(task, records)
            result = json.loads(json.dumps(measure.run(task, folder, measure.SMOKE, args.device)))
            records.append({"machine": found, "of": of, "code": machine.revision(), "task": task, "result": result})
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
