"""Scores from the record of answers; each says its range, which way is better, and its interval."""

from unsee.metrics.intervals import Score
from unsee.metrics.mmubench import METRICS, Metric, summarise, summarise_run
from unsee.metrics.record import Answer, pair_up, read_answers, select, write_answers
from unsee.metrics.requirements import Outcome, check, parse_requirements

__all__ = [
    "METRICS",
    "Answer",
    "Metric",
    "Outcome",
    "Score",
    "check",
    "pair_up",
    "parse_requirements",
    "read_answers",
    "select",
    "summarise",
    "summarise_run",
    "write_answers",
]
