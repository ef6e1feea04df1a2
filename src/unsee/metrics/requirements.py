"""What `--require` asks of a run: `em>=95,specificity>=-2`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from unsee.errors import UnseeError, did_you_mean
from unsee.metrics.mmubench import METRICS

_SYNTAX = re.compile(r"(?P<name>\w+)\s*(?P<sign>>=|<=|>|<)\s*(?P<bound>[+-]?(?:\d+\.?\d*|\.\d+))")
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda value, bound: value >= bound - 1e-9,  # 1e-9: 100 * 19 / 20 shall meet 95 on every machine
    "<=": lambda value, bound: value <= bound + 1e-9,
    ">": operator.gt,
    "<": operator.lt,
}
_HELD = ("specificity", "specificity_naming", "specificity_yes_no", "neighbours", "text_kept", "text_general")


class Outcome(NamedTuple):
    """One requirement: its text, what was measured (None: could not be; of several concepts forgotten together, of the
    one that fared worst), whether it is met (not, if None)."""

    requirement: str
    measured: float | None
    met: bool


@dataclass(frozen=True)
class Requirement:
    """One parsed requirement; `side` is the part of `metrics.json` it looks at: "after" or "change"."""

    text: str
    key: str
    sign: str
    bound: float
    side: str

    def judge(self, metrics: Mapping[str, Any]) -> Outcome:
        asked = (metrics, *metrics.get("concepts", {}).values())
        found = [one[self.side].get(self.key) for one in asked]
        scores = [score for score in found if score is not None]
        held = self.sign in (">=", ">")  # what is to be reached must have been measured, for every concept
        if not scores or (held and len(scores) < len(found)):
            return Outcome(self.text, None, False)
        worst = min if held else max
        measured = float(worst(score["value"] for score in scores))
        return Outcome(self.text, measured, _SIGNS[self.sign](measured, self.bound))


def parse_requirements(requirements: str) -> list[Requirement]:
    """Read `NAME SIGN NUMBER`, several parted by commas; SIGN is one of >= <= > <.

    A requirement looks at the score after unlearning. For what is to be held (specificity and its parts, neighbours,
    text_kept, text_general) a bound written with a minus sign looks at the change, after minus before:
    `specificity>=-2` allows a loss of two points, `specificity>=-0` none, `specificity>=60` asks for 60 %.

    Raises:
        UnseeError: bad syntax, nothing at all, an unknown name, or a bound the score can never reach.
    """
    return [_parse(part.strip(), requirements) for part in requirements.split(",")]


def check(requirements: str, metrics: Mapping[str, Any]) -> list[Outcome]:
    """Judge the result of `summarise` by requirements, in the order they are written.

    Raises:
        UnseeError: as `parse_requirements`.
    """
    return [requirement.judge(metrics) for requirement in parse_requirements(requirements)]


def _parse(text: str, whole: str) -> Requirement:
    matched = _SYNTAX.fullmatch(text)
    if not matched:
        raise UnseeError(
            f"cannot read the requirement {text!r} in {whole!r}: write NAME>=NUMBER (or <=, >, <), several parted by "
            f"commas, for example 'em>=95,specificity>=-2'; names: {', '.join(METRICS)}"
        )
    key, sign, number = matched["name"], matched["sign"], matched["bound"]
    if key not in METRICS:
        raise UnseeError(f"unknown metric {key!r}: {did_you_mean(key, METRICS)}The metrics are: {', '.join(METRICS)}")
    bound, side = float(number), "change" if key in _HELD and number.startswith("-") else "after"
    low, high = (-100.0, 100.0) if side == "change" else METRICS[key].range
    if not low <= bound <= high:
        raise UnseeError(f"the requirement {text!r} says nothing: {key} lies between {low:g} and {high:g}")
    return Requirement(text, key, sign, bound, side)
