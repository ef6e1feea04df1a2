"""Drawings and numbers of the report."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from unsee.report.charts import line, nice_ticks
from unsee.report.figures import number, signed


@pytest.mark.parametrize(
    ("low", "high"),
    [
        *((0, 1), (-0.2, 0.31), (3, 3), (0, 0), (1e-9, 2e-9), (-5e6, 7e6), (99, 99.5)),
        *((1.4e-14, 1.4e-14), (-3e-200, -3e-200), (1e-17, 5e-14), (1.0, 1.0 + 3e-16), (123456.75, 123456.875)),
    ],
)
def test_ticks_enclose_the_values(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= low + abs(low) * 1e-9 and ticks[-1] >= high - abs(high) * 1e-9
    steps = {round((b - a) / (ticks[1] - ticks[0]), 6) for a, b in pairwise(ticks)}
    assert steps == {1.0}


def test_curves_stay_inside_their_frame_and_small() -> None:
    svg = str(line([(float(i), (-1) ** i * i / 7) for i in range(5000)], "a <curve>"))
    points = re.search(r'points="([^"]+)"', svg)
    assert points
    pairs = [tuple(map(float, pair.split(","))) for pair in points.group(1).split()]
    assert len(pairs) <= 240 and all(0 <= x <= 300 and 0 <= y <= 150 for x, y in pairs)
    assert "a &lt;curve&gt;" in svg
    assert all("nan" not in str(line([(1.0, only)], "one step")) for only in (2.0, 2e-15))


def test_numbers() -> None:
    assert [number(v) for v in (0.0, 0.02, 99.97, 100.0, 95.25)] == ["0", "0.1", "99.9", "100", "95.2"]
    assert [signed(v) for v in (0.0, -0.4, 12.0)] == ["0", "\N{MINUS SIGN}0.4", "+12"]
    assert signed(4e-16, "") == "0" and number(123456.0, "") == "1.23e+05"
