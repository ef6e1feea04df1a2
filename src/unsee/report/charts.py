"""Small inline SVG drawings: coloured by the page's own CSS, so they follow light and dark and print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from unsee.report.figures import MINUS
from unsee.report.read import History, Score

_WIDTH, _HEIGHT = 300, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 12, 24
_MOST_POINTS = 240
_COLOURS = 8
"""Of series, as the style sheet has them."""
_AROUND = ((8, -6), (8, 8), (-15, -6), (-15, 8), (8, -15), (-15, -15))
"""Steps from a mark to the places of its label, best first."""


@dataclass(frozen=True)
class Curve:
    """A drawing with its heading and a sentence that says what it shows."""

    title: str
    summary: str
    svg: Markup


def loss_curves(history: History | None) -> list[Curve]:
    """The total loss and each of its terms over the steps that have it; of terms without any number, none."""
    if history is None:
        return []
    names = dict.fromkeys(name for step in history.steps for name in step.terms)
    series = {"total loss": [(step.step, step.loss) for step in history.steps]}
    series |= {name: [(s.step, s.terms[name]) for s in history.steps if name in s.terms] for name in names}
    curves = []
    for name, points in series.items():
        known = [(float(x), y) for x, y in points if y is not None]
        if not known:
            continue
        summary = f"from {_tick(known[0][1])} to {_tick(known[-1][1])}"
        gaps = len(points) - len(known)
        if gaps:
            summary += f"; {'one step' if gaps == 1 else f'{gaps} steps'} without a finite value"
        curves.append(Curve(name, summary, line(known, f"{name} over {len(points)} steps, {summary}")))
    return curves


def line(points: Sequence[tuple[float, float]], description: str) -> Markup:
    """A line over steps with its axes.

    Args:
        points: (x, y) in order of x, finite, at least one.
        description: what a screen reader says.
    """
    points = _thinned(points)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    ticks = nice_ticks(min(ys), max(ys))
    low, high = ticks[0], ticks[-1]
    left, right = min(xs), max(xs)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / (right - left) if right > left else 0.5
        up = (y - low) / (high - low)
        return (_LEFT + across * (_WIDTH - _LEFT - _RIGHT), _TOP + (1 - up) * (_HEIGHT - _TOP - _BOTTOM))

    parts = [
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(description)}">',
    ]
    for tick in ticks:
        _, y = place(left, tick)
        kind = "zero" if tick == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_tick(tick)}</text>')
    labels = [(left, "start"), (right, "end")] if right > left else [(left, "middle")]
    for x, anchor in labels:
        word = f"step {x:g}" if x == left else f"{x:g}"
        parts.append(f'<text x="{place(x, low)[0]:.1f}" y="{_HEIGHT - 7}" text-anchor="{anchor}">{word}</text>')
    placed = [place(x, y) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    parts.append(f'<polyline class="line" points="{path}"/>')
    if len(placed) <= 40:
        parts += [f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in placed]
    return Markup("".join([*parts, "</svg>"]))


def strip(before: Score | None, after: Score | None) -> Markup:
    """Two percentages with their intervals on one axis from 0 to 100: before hollow above, after filled below."""
    width, height, edge = 150, 26, 6

    def x(value: float) -> float:
        return edge + min(max(value, 0.0), 100.0) / 100 * (width - 2 * edge)

    parts = [
        f'<svg class="strip" viewBox="0 0 {width} {height}" aria-hidden="true">',
        *(f'<line class="grid" x1="{x(v):.1f}" x2="{x(v):.1f}" y1="2" y2="{height - 2}"/>' for v in (0, 50, 100)),
    ]
    for score, y, name in ((before, 8, "before"), (after, 18, "after")):
        if score is None:
            continue
        if score.low is not None and score.high is not None:
            parts.append(
                f'<line class="range {name}" x1="{x(score.low):.1f}" x2="{x(score.high):.1f}" y1="{y}" y2="{y}"/>'
            )
        parts.append(f'<circle class="dot {name}" cx="{x(score.value):.1f}" cy="{y}" r="3.6"/>')
    return Markup("".join([*parts, "</svg>"]))


@dataclass(frozen=True)
class Mark:
    """One point of a scatter plot: two scores with their intervals, a short label, and the series it belongs to."""

    label: str
    series: int
    x: Score
    y: Score


def scatter(marks: Sequence[Mark], across: str, up: str, description: str) -> Markup:
    """Percentages against percentages with their intervals, coloured by series.

    Args:
        marks: at least one.
        across, up: what the axes show.
        description: what a screen reader says.
    """
    width, height, left, right, top, bottom = 440, 320, 34, 16, 26, 38
    xs, ys = _percent_ticks([m.x for m in marks]), _percent_ticks([m.y for m in marks])

    def x(value: float) -> float:
        return left + (value - xs[0]) / (xs[-1] - xs[0]) * (width - left - right)

    def y(value: float) -> float:
        return top + (ys[-1] - value) / (ys[-1] - ys[0]) * (height - top - bottom)

    low, high = y(ys[0]), y(ys[-1])
    parts = [f'<svg class="scatter" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">']
    for tick in xs:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{low + 14:.1f}" text-anchor="middle">{_tick(tick)}</text>')
    for tick in ys:
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{_tick(tick)}</text>')
    parts.append(f'<text x="{left}" y="{top - 12}">↑ {escape(up)}</text>')
    parts.append(f'<text x="{width - right}" y="{height - 6}" text-anchor="end">{escape(across)} →</text>')
    for mark in marks:
        kind, across_at, up_at = _series(mark.series), x(mark.x.value), y(mark.y.value)
        if mark.x.low is not None and mark.x.high is not None:
            ends = f'x1="{x(mark.x.low):.1f}" x2="{x(mark.x.high):.1f}" y1="{up_at:.1f}" y2="{up_at:.1f}"'
            parts.append(f'<line class="range {kind}" {ends}/>')
        if mark.y.low is not None and mark.y.high is not None:
            ends = f'x1="{across_at:.1f}" x2="{across_at:.1f}" y1="{y(mark.y.low):.1f}" y2="{y(mark.y.high):.1f}"'
            parts.append(f'<line class="range {kind}" {ends}/>')
    places = [(x(m.x.value), y(m.y.value)) for m in marks]
    parts += [_symbol(mark.series, *place) for mark, place in zip(marks, places, strict=True)]
    for mark, (label_x, label_y) in zip(marks, _label_places(places), strict=True):
        parts.append(f'<text class="label" x="{label_x:.1f}" y="{label_y:.1f}">{escape(mark.label)}</text>')
    return Markup("".join([*parts, "</svg>"]))


def symbol(series: int) -> Markup:
    """The mark of a series by itself, for a legend."""
    return Markup(f'<svg class="key" viewBox="0 0 12 12" aria-hidden="true">{_symbol(series, 6, 6)}</svg>')


def _symbol(series: int, x: float, y: float) -> str:
    """A circle, square, diamond or triangle; the shape changes when the colours begin anew."""
    shape = series // _COLOURS % 4
    kind = f'class="mark {_series(series)}"'
    if shape == 0:
        return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="4.6"/>'
    corners = (
        ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        ((0, -5.6), (5.6, 0), (0, 5.6), (-5.6, 0)),
        ((0, -5), (5, 4.2), (-5, 4.2)),
    )[shape - 1]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon {kind} points="{points}"/>'


def _series(series: int) -> str:
    return f"series-{series % _COLOURS}"


def _percent_ticks(scores: Sequence[Score]) -> list[float]:
    """Ticks around the scores and their intervals, inside 0 to 100, at least ten points apart."""
    low = min(s.value if s.low is None else s.low for s in scores)
    high = max(s.value if s.high is None else s.high for s in scores)
    room = max(0.0, 10 - (high - low)) / 2
    low, high = low - room, high + room
    low, high = low - max(0.0, high - 100), high - min(0.0, low)
    return nice_ticks(max(low, 0.0), min(high, 100.0), most=6)


def _label_places(marks: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where the labels of the marks go: beside them, each at the first of some places that no other has taken."""
    taken: list[tuple[float, float]] = []
    for x, y in marks:
        around = [(x + dx * ring, y + 3.5 + dy * ring) for ring in (1, 2, 3) for dx, dy in _AROUND]
        free = [p for p in around if all(abs(p[0] - q[0]) > 13 or abs(p[1] - q[1]) > 9 for q in taken)]
        taken.append((free or around)[0])
    return taken


def nice_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Two or more round numbers, evenly spaced, that enclose `low` to `high`; at most `most` steps between."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # one value, or as good as: room around it
        room = max(abs(low), abs(high)) * 0.1 or 1.0
        low, high = low - room, high + room
    raw = (high - low) / most
    magnitude = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 2.5, 5, 10, 20):
        step = factor * magnitude
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    return [float(f"{i * step:.12g}") + 0.0 for i in range(first, last + 1)]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `_MOST_POINTS` points: means of neighbours, the first and the last kept as they are."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    size = math.ceil(len(points) / _MOST_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    means = [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
    return [points[0], *means[1:-1], points[-1]]


def _tick(value: float) -> str:
    return f"{value:.3g}".replace("-", MINUS)
