"""What a command shows while it works and when it is done: bars and tables, or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from unsee.methods import Method
    from unsee.methods.settings import Setting
    from unsee.metrics import Outcome
    from unsee.report.read import Exchange, RunView
    from unsee.runs import Run


def _named(metrics: Mapping[str, Any], view: RunView) -> Mapping[str, Any]:
    """Scores under the names that the view shows."""
    if "concepts" not in metrics or not view.redacted:
        return metrics
    each = zip((concept.name for concept in view.concepts), metrics["concepts"].values(), strict=True)
    return {**metrics, "concepts": dict(each)}


class Display:
    """Progress on stderr where that is a terminal, results on stdout; as a context it shows the bars.

    Args:
        machine: print the result as one JSON object and draw no bars.
    """

    def __init__(self, machine: bool = False):
        self.machine = machine
        self.console = Console()
        self.errors = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.errors,
            disable=machine or not self.errors.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def progress(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def assembling(self, what: str, share: float) -> None:
        self.progress("assembling unsee-mini", round(share * 100), 100)
        self._bars.update(self._tasks["assembling unsee-mini"], description=what[:22])

    def warn(self, line: str) -> None:
        self.errors.print(Text.assemble(("note:", "yellow"), " ", " ".join(line.split())), soft_wrap=True)

    def finish(self, run: Run, outcomes: Sequence[Outcome]) -> None:
        """What came of a run: examples, scores, and where the report is; of one that is redacted no more than there."""
        self._bars.stop()
        from unsee.report import judge, shown

        view = shown(run.path)
        left_out = [] if view.redacted else run.left_out
        if run.left_out:
            some = ", ".join(left_out[:5]) + (", ..." if len(left_out) > 5 else "")
            count = f"{len(run.left_out)} protected pictures seem to show the concept and were left out"
            self.warn(f"{count}: {some}" if some else count)
        verdict = judge(view)
        if self.machine:
            met = [{"requirement": o.requirement, "measured": o.measured, "met": o.met} for o in outcomes]
            said = {"claim": verdict.claim, "tone": verdict.tone, "cautions": verdict.cautions}
            self._object({"run": str(run.path), "verdict": said, "metrics": _named(run.metrics, view),
                          "requirements": met, "left_out": left_out})  # fmt: skip
            return
        self._answers(view)
        self.scores(run.path, view, run.metrics)
        self._line((verdict.claim, "bold"), *(f" {caution}" for caution in verdict.cautions))
        self._line(f"trained in {run.history.seconds:.0f} s; report: ", (str(run.path / "report.html"), "bold"))

    def _answers(self, view: RunView) -> None:
        own: dict[str, list[Exchange]] = {}
        for exchange in view.asked("forget"):
            own.setdefault(exchange.subject, []).append(exchange)
        if not own:
            return
        table = Table("question on an unseen picture", "before", "after", title=Text(f"Forgetting {', '.join(own)}"))
        for e in [e for rows in own.values() for e in rows[: max(1, 6 // len(own))]]:
            table.add_row(Text(e.question), Text(e.before or ""), Text(e.after or ""))
        self.console.print(table)

    def scores(self, run: Path, view: RunView, metrics: Mapping[str, Any]) -> None:
        """The scores of a run, as `metrics.json` holds them; of several concepts, of each as well."""
        from unsee.metrics import METRICS

        metrics = _named(metrics, view)
        if self.machine:
            self._object({"run": str(run), "metrics": metrics})
            return
        table = Table("metric", "before", "after", "95 % interval", "better")
        for key, metric in METRICS.items():
            before, after = metrics["before"].get(key), metrics["after"].get(key)
            if after is None:
                continue
            better = {True: "high", False: "low", None: ""}[metric.higher_is_better]
            table.add_row(
                metric.name, f"{before['value']:.1f}" if before else "", f"{after['value']:.1f}",
                f"{after['low']:.1f} to {after['high']:.1f}", better,
            )  # fmt: skip
        self.console.print(table)
        each = metrics.get("concepts", {})
        keys = ("em_naming", "em_yes_no", "text_kept")
        if each:
            table = Table("concept", *(METRICS[key].name for key in keys))
            for name, own in each.items():
                found = [own["after"][key] for key in keys]
                table.add_row(Text(name), *(f"{score['value']:.1f}" if score else "" for score in found))
            self.console.print(table)

    def said(self, answers: Mapping[str, str]) -> None:
        if self.machine:
            self._object(dict(answers))
            return
        for who, text in answers.items():
            self._line((f"{who}: ", "bold"), text)

    def wrote(self, what: str, path: Path) -> None:
        if self.machine:
            self._object({what: str(path)})
        else:
            self._line("wrote ", (str(path), "bold"))

    def table(self, key: str, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if self.machine:
            self._object({key: list(rows)})
            return
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*(Text(", ".join(v) if isinstance(v, list) else str(v)) for v in row.values()))
        self.console.print(table)

    def settings(self, method: type[Method[Any]], found: Sequence[Setting]) -> None:
        """What a method can be told with --set."""
        self._line((method.name, "bold"), f": {method.paper}; moves: {method.moves}; data: {', '.join(method.data)}")
        table = Table("--set", "default", "range", "meaning", title=f"Settings of {method.name}")
        for s in found:
            bounds = f"{s.range[0]:g} to {s.range[1]:g}" if s.range else ", ".join(s.words)
            table.add_row(Text(s.name), Text(str(s.default)), bounds, Text(s.meaning))
        self.console.print(table)
        presets = {n: p for n, p in method.presets.items() if p}
        for name, changes in presets.items():
            self._line((f"--preset {name}: ", "bold"), ", ".join(f"{k}={v}" for k, v in changes.items()))

    def _line(self, *parts: str | tuple[str, str]) -> None:
        """A line of plain text: what models and users write is no markup."""
        self.console.print(Text.assemble(*parts), soft_wrap=True)

    def _object(self, value: Mapping[str, Any]) -> None:
        print(json.dumps(value))
