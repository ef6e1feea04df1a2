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


@dataclass(frozen=True)
class Curve:
    """A drawing with its heading and a sentence that says what it shows."""

    title: str
    summary: str
    svg: Markup


def loss_curves(history: History | None) -> list[Curve]:
    """The total loss and each of its terms over the steps; of terms without any number, none."""
    if history is None:
        return []
    names = dict.fromkeys(name for step in history.steps for name in step.terms)
    series = {"total loss": [(step.step, step.loss) for step in history.steps]}
    series |= {name: [(step.step, step.terms.get(name)) for step in history.steps] for name in names}
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


def nice_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Two or more round numbers, evenly spaced, that enclose `low` to `high`; at most `most` steps between."""
    if not high > low:
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    raw = (high - low) / most
    magnitude = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 2.5, 5, 10, 20):
        step = factor * magnitude
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


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
