"""Numbers as a person reads them, and texts with marked passages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from unsee.data.concept import Concept
from unsee.report.read import Score

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
PERCENT = "%"
"""The unit whose scores run from 0 to 100."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LONGEST = 700
_MOST_LISTED = 5


def number(value: float, unit: str = PERCENT) -> str:
    """A score without its unit. A share never rounds to all or nothing: 99.97 gives "99.9"."""
    if unit == PERCENT:
        nearest = round(value, 1)
        if nearest >= 100 > value:
            nearest = 99.9
        if nearest <= 0 < value:
            nearest = 0.1
        text = f"{nearest:.1f}"
    else:
        value = round(value, 9)  # what is left of a subtraction is no change
        text = f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.2e}"
    text = text.removesuffix(".0")
    return text.replace("-", MINUS)


def share(value: float) -> str:
    """A percentage with its sign: "99.5 %"."""
    return f"{number(value)}{NBSP}%"


def signed(value: float, unit: str = PERCENT) -> str:
    """A change with its sign: "+3.1", "−0.4", "0"."""
    text = number(abs(value), unit)
    return text if text == "0" else ("+" if value > 0 else MINUS) + text


def interval(score: Score | None, unit: str = PERCENT, sign: bool = False) -> str:
    """The ends of a score's interval, "95 to 100", or "" where there is none."""
    if score is None or score.low is None or score.high is None:
        return ""
    show = signed if sign else number
    return f"{show(score.low, unit)} to {show(score.high, unit)}"


def duration(seconds: float) -> str:
    """ "41 s", "12 min 5 s", "3 h 20 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def forgotten(concepts: Sequence[Concept]) -> str:
    """What was to be forgotten, as a sentence speaks of it; beyond a handful of concepts their number."""
    phrases = [concept.phrase for concept in concepts]
    return listed(phrases) if len(phrases) <= _MOST_LISTED else f"{len(phrases)} concepts"


def readable(text: str) -> str:
    """The text without control characters, cut where it is very long."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", unicodedata.normalize("NFC", text))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rstrip()} … ({len(text)} characters)"


def marked(text: str, patterns: Iterable[re.Pattern[str]], label: str) -> Markup:
    """The escaped text with everything that a pattern matches in `<mark class=label>`.

    As in the metrics, curly apostrophes count as plain ones and underscores as spaces.
    """
    text, pieces, end = readable(text), [], 0
    seen = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace("_", " ")
    for start, stop in sorted(match.span() for pattern in patterns for match in pattern.finditer(seen)):
        if stop > max(start, end):
            start = max(start, end)
            pieces += [escape(text[end:start]), Markup('<mark class="{}">{}</mark>').format(label, text[start:stop])]
            end = stop
    return Markup("").join([*pieces, escape(text[end:])])
