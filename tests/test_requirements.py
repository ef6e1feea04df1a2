"""--require: what is asked of the scores."""

from __future__ import annotations

import pytest

from unsee.errors import UnseeError
from unsee.metrics import check, parse_requirements

MEASURED = {
    "after": {"em": {"value": 95.0}, "specificity": {"value": 60.0}, "text_kept": {"value": 80.0}, "c_dis": None},
    "change": {"em": {"value": 90.0}, "specificity": {"value": -2.5}, "text_kept": {"value": -1.0}, "c_dis": None},
}


@pytest.mark.parametrize(
    ("requirement", "measured", "met"),
    [
        ("em>=95", 95.0, True),
        ("em > 95", 95.0, False),
        ("specificity>=60", 60.0, True),
        ("specificity>=-2", -2.5, False),
        ("specificity>=-2.5", -2.5, True),
        ("text_kept>=-0", -1.0, False),
        ("text_kept>=0", 80.0, True),
        ("em<=10.5", 95.0, False),
        ("c_dis>=1", None, False),
        ("fluency<100", None, False),
    ],
)
def test_a_requirement(requirement: str, measured: float | None, met: bool) -> None:
    assert check(requirement, MEASURED) == [(requirement, measured, met)]


def test_of_several_concepts_each_has_to_meet_a_requirement() -> None:
    fine = {"after": {"em": {"value": 100.0}}, "change": {"specificity": {"value": 0.0}}}
    left = {"after": {"em": {"value": 0.0}}, "change": {"specificity": {"value": -3.0}}}
    together = {**MEASURED, "concepts": {"tiger": fine, "France": left}}
    assert check("em>=95,specificity>=-2", together) == [("em>=95", 0.0, False), ("specificity>=-2", -3.0, False)]
    assert check("em>=95", {**together, "concepts": {"tiger": fine}}) == [("em>=95", 95.0, True)]
    unasked = {"after": {"em": None}, "change": {}}
    assert check("em>=95", {**together, "concepts": {"tiger": fine, "France": unasked}}) == [("em>=95", None, False)]
    assert check("em<=95", {**together, "concepts": {"tiger": unasked}}) == [("em<=95", 95.0, True)]


def test_requirements_are_judged_in_their_order() -> None:
    assert [(o.requirement, o.met) for o in check(" em>=95, specificity>=-2 ", MEASURED)] == [
        ("em>=95", True),
        ("specificity>=-2", False),
    ]


def test_rounding_does_not_fail_a_requirement() -> None:
    metrics = {"after": {"em": {"value": 94.99999999999999}}, "change": {"text_kept": {"value": -2.0000000000000142}}}
    assert all(outcome.met for outcome in check("em>=95,text_kept>=-2", metrics))
    assert not check("em>=95.000001", metrics)[0].met


@pytest.mark.parametrize("text", ["", " ", "em", "em=95", "em>=", "em>=95,", "em>=nan", "em>=95%", ">=3", "em>=9 5"])
def test_a_requirement_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UnseeError, match="NAME>=NUMBER"):
        parse_requirements(text)


def test_an_unknown_metric_gets_a_hint_and_the_list() -> None:
    with pytest.raises(UnseeError, match=r"'specifity': did you mean 'specificity'\?.*efficacy.*mean_length"):
        parse_requirements("em>=95,specifity>=-2")
    with pytest.raises(UnseeError, match=r"unknown metric 'qqqq': The metrics are"):
        parse_requirements("qqqq>=1")


@pytest.mark.parametrize("text", ["em>=950", "em>=-2", "specificity>=-200", "fluency<0"])
def test_a_bound_out_of_reach_is_refused(text: str) -> None:
    with pytest.raises(UnseeError, match="lies between"):
        parse_requirements(text)
