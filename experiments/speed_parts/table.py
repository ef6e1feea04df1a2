"""From records to the table of what was asked and what was measured, and the plot of growth."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]
VKD_ROWS = {"distillation": "distillation alone", "step": "default step"}
GD_ROWS = {"full GD": "peer", "full GD, best plain": "best plain"}


@dataclass(frozen=True)
class Spread:
    """A median over repeats, with the least and the greatest."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        digits = 2 if self.median >= 2 else 3  # a limit of 1.05 is not to be met by rounding
        least, middle, most = (f"{v:.{digits}f}" for v in (min(self.values), self.median, max(self.values)))
        return f"{middle} ({least} to {most}, n = {len(self.values)})"


class Table:
    """Rows of the comparison; a row whose measurements are missing is left out.

    Args:
        records: lines of the file, of one machine and model.
    """

    def __init__(self, records: Sequence[Record]):
        self.records = records
        self.cells = sorted({r["task"]["tokens"] for r in records})

    def results(self, **wanted: Any) -> list[Record]:
        """Results of the tasks that have these entries, by repeat."""
        found = [r for r in self.records if all(r["task"].get(k) == v for k, v in wanted.items())]
        return [r["result"] for r in sorted(found, key=lambda r: r["task"].get("repeat", 0))]

    def by_repeat(self, number: str, wanted: Record) -> dict[int, float]:
        """A number of the tasks that have these entries; a repeat that failed is not there."""
        found = [r for r in self.records if wanted.items() <= r["task"].items()]
        return {r["task"].get("repeat", 0): r["result"][number] for r in found}

    def ratio(self, number: str, over: Record, under: Record) -> Spread | None:
        """A number of one kind of task by that of another, repeat by repeat."""
        above, below = (self.by_repeat(number, wanted) for wanted in (over, under))
        found = tuple(above[repeat] / below[repeat] for repeat in sorted(above.keys() & below.keys()))
        return Spread(found) if found else None

    def lines(self) -> list[tuple[str, str, str]]:
        """(what, asked, measured)."""
        most, found = max(self.cells), []

        def add(what: str, asked: str, value: object) -> None:
            if value is not None:
                found.append((what, asked, str(value)))

        asked = {576: ("12", "8"), 64: ("3.5", "2.3")}
        for tokens in reversed(self.cells):
            want = asked.get(tokens, ("-", "-"))
            of = {"do": "train", "set": "one picture", "tokens": tokens}
            self._compare(add, f"pass over questions on one picture, {tokens} image tokens", want, of)
        of = {"do": "train", "set": "standard", "tokens": most}
        self._compare(add, f"pass over the standard SIU set, {most} image tokens", ("5.5", "4"), of)
        with_it = {"do": "train", "set": "one picture", "path": "ours", "tokens": most}
        without = {"do": "train without reference", "tokens": most}
        add("peak with a reference over peak without", "<= 1.05", self.ratio("peak_gib", with_it, without))
        for name, free in (("kl", "gd"), ("npo", "simnpo")):
            with_it, without = ({"do": "method", "method": m, "tokens": most} for m in (name, free))
            peaks = self.ratio("peak_gib", with_it, without)
            add(f"peak of {name} over peak of {free}, which needs no reference", "<= 1.05", peaks)
            add(f"  time of the same, recording included: {name} / {free}", "", self.ratio("seconds", with_it, without))
        for what, at_least in (("distillation", ">= 10"), ("step", ">= 3")):
            for whole, path in GD_ROWS.items():
                of = {"do": "vkd", "tokens": most}
                times = self.ratio("seconds", {**of, "what": whole}, {**of, "what": what})
                add(f"time of a full-model GD step ({path}) / VKD's {VKD_ROWS[what]}", at_least, times)
                at_least = ""
        of = {"do": "answers", "tokens": most}
        what = f"questions answered on one picture, {most} image tokens"
        self._compare(add, what, ("12", "2"), of, ("peer", "best plain", "best plain, prompt cached"))
        self._forgetting(add)
        for record in self.records:
            if record["task"]["do"] == "agreement":
                self._agreement(add, record)
        for result in self.results(do="counts"):
            for side in ("before", "after"):
                n = result[side]
                said = (
                    f"{n['prefixes']} to answer, {n['in_scoring']} more to score; {n['generations']} generations, "
                    f"{n['scoring_forwards']} scoring forwards"
                )
                add(f"prefix encodings for {result['questions']} questions, {side}", "1; 1, 1", said)
        if runs := self.results(do="profile"):
            for part in ("step", "recording"):
                add(f"useful arithmetic of {part}, share of the matmul peak", ">= 0.40",
                    Spread(tuple(r["fraction"][part] for r in runs)))  # fmt: skip
            rates = ", ".join(
                f"{k} {statistics.median(r['peaks'][k] for r in runs) / 1e9:.0f}" for k in runs[0]["peaks"]
            )
            add("matmul peak, GFLOP/s", "", rates)
            add("where a step's time goes", "", ", ".join(f"{n} {s:.0f} %" for n, s, _ in runs[-1]["self_time"][:10]))
        for form in ("slices", "mask", "cache"):
            if curve := self.growth(form):
                first, counts = curve[min(curve)], sorted(curve)
                slope = (curve[counts[-1]] - first) / (counts[-1] - counts[0])
                at_most = "<= 0.125" if form == "slices" else ""  # the library's way; the others are beside it
                add(
                    f"growth to {counts[-1]} questions, {form}: further question / first",
                    at_most,
                    f"{slope / first:.3f}",
                )
        return found

    def _compare(
        self,
        add: Callable[[str, str, object], None],
        what: str,
        asked: tuple[str, str],
        of: Record,
        others: Sequence[str] = ("peer", "best plain"),
    ) -> None:
        """Times, memory and tokens of the paths; of the others after the second nothing is asked."""
        ours = {**of, "path": "ours"}
        for path, want in zip(others, [*asked, *["-"] * (len(others) - 2)], strict=True):
            at_least = f">= {want}" if want != "-" else ""
            ratio = self.ratio("seconds", {**of, "path": path}, ours)
            add(f"{what}: time of {path} / ours", at_least, ratio)
        if of["do"] == "train":
            at_most = "<= 0.5" if asked[0] == "12" else ""
            add("  peak memory of ours / peer", at_most, self.ratio("peak_gib", ours, {**of, "path": "peer"}))
        for path in others[1:]:
            add(f"  peak memory of ours / {path}", "", self.ratio("peak_gib", ours, {**of, "path": path}))
        numbers = ("seconds", "peak_gib", "base_gib", "tokens", "load")
        for path in (*others, "ours"):
            if runs := self.results(path=path, **of):
                n = {k: statistics.median(r[k] for r in runs) for k in numbers}
                said = f"{n['seconds']:.2f} s, peak {n['peak_gib']:.2f} GiB ({n['base_gib']:.2f} with the model loaded)"
                add(f"  {path}", "", f"{said}, {n['tokens']:.0f} tokens, load {n['load']:.1f}")
        if runs and "generated" in runs[0]:
            add("  tokens of ours' answers, end tokens not counted", "", runs[0]["generated"])
        if parts := [r["parts"] for r in self.results(path="ours", **of) if r.get("parts")]:
            split = (f"{statistics.median(p[k] for p in parts):.2f} s" for k in parts[0])
            add("  ours: recording the reference (once a run), a step", "", ", ".join(split))

    def _forgetting(self, add: Callable[[str, str, object], None]) -> None:
        """Time to forget a concept, and what came of it: the mean over concepts, and the worst."""
        ours = {"do": "forget", "path": "ours"}
        for path in ("peer", "best plain", "ours"):
            of = {"do": "forget", "path": path}
            if not (runs := self.results(**of)):
                continue
            if path != "ours":
                add(f"a concept forgotten: time of {path} / ours", "", self.ratio("seconds", of, ours))
            said = [f"{statistics.median(r['seconds'] for r in runs):.0f} s, {runs[0]['samples']} samples"]
            for score in ("em", "degenerate_rate"):
                values = [r["after"][score] for r in runs]
                said.append(f"{score} {statistics.fmean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
            for score in ("specificity_naming", "specificity_yes_no", "neighbours", "text_kept"):
                if not (told := [r for r in runs if score in r["after"] and score in r["before"]]):
                    continue
                lost = [r["after"][score] - r["before"][score] for r in told]
                said.append(f"{score} {statistics.fmean(lost):+.1f} ({min(lost):+.1f} to {max(lost):+.1f})")
            add(f"  {path}", "", ", ".join(said))

    def _agreement(self, add: Callable[[str, str, object], None], record: Record) -> None:
        result, task = record["result"], record["task"]
        where = f"{task['dtype']}, {task['tokens']} image tokens"
        exact = task["dtype"] == "float32"
        for kind in ("loss", "gradients"):
            add(f"largest relative difference of {kind}, {where}", "<= 1e-4" if exact else "",
                f"{max(result[kind].values()):.1e}")  # fmt: skip
        for path, count in result["different_answers"].items():
            said = f"{count}"
            if count:
                said += f", where the two logits differ by at most {max(a['gap'] for a in result['answers'][path]):.3g}"
                said += f" (spacing {max(a['spacing'] for a in result['answers'][path]):.3g})"
            name = "ours" if path == "slices" else path
            add(f"answers of {name} unlike the peer's, {where}", "0" if exact else "only near ties", said)

    def growth(self, form: str) -> dict[int, float]:
        """Seconds by number of questions, the median over repeats."""
        runs = self.results(do="growth", form=form)
        return {int(n): statistics.median(r["seconds"][n] for r in runs) for n in runs[0]["seconds"]} if runs else {}

    def text(self) -> str:
        lines = [("", "asked", "measured"), *self.lines()]
        lines.append(("code", "", ", ".join(sorted({r.get("code", "unknown") for r in self.records}))))
        first, second = (max(len(line[i]) for line in lines) for i in (0, 1))
        return "\n".join(f"{a:{first}}  {b:{second}}  {c}" for a, b, c in lines)


def plot(table: Table, path: Path) -> None:
    """Seconds of a training pass by the number of questions on one picture, for each way to share the prefix."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    names = {"slices": "one sequence, in slices", "mask": "one sequence, one mask", "cache": "batch on the KV cache"}
    figure, axes = pyplot.subplots(figsize=(6, 3.6))
    for form, name in names.items():
        if curve := table.growth(form):
            axes.plot(list(curve), list(curve.values()), marker="o", markersize=3, label=name)
    axes.set_xlabel(f"questions on one picture of {max(table.cells)} tokens")
    axes.set_ylabel("seconds of a training pass")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
