"""Which samples a step sees."""

from __future__ import annotations

from collections import Counter

from conftest import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import PICTURE

from unsee.data import Sample
from unsee.methods import TrainingSettings
from unsee.methods.encoded import Encoded
from unsee.models import VisionLanguageModel
from unsee.training import plan


@st.composite
def sample_lists(draws: st.DrawFn) -> list[Sample]:
    pictures = [draw("circle", i) for i in range(3)]
    samples = []
    for i, where in enumerate(draws(st.lists(st.integers(0, 4), min_size=1, max_size=24))):
        if where == 0:
            samples.append(Sample(f"q{i}", "a", pictures[0], None, "forget", "T1"))
        else:
            samples.append(Sample(f"q{i}", "a", pictures[where - 2] if where > 1 else None, None, "retain", "T4"))
    return samples


@settings(max_examples=80, deadline=None)
@given(sample_lists(), st.integers(1, 12), st.integers(1, 30), st.integers(0, 99))
def test_dealt_out_samples_come_round_evenly(samples: list[Sample], steps: int, size: int, seed: int) -> None:
    found = plan(samples, TrainingSettings(steps=steps, samples_per_step=size), seed)
    assert found == plan(samples, TrainingSettings(steps=steps, samples_per_step=size), seed)
    assert [len(s) for s in found] == [min(size, len(samples))] * steps
    assert all(len(set(s)) == len(s) for s in found)
    counts = Counter(i for s in found for i in s)
    assert max(counts.values()) - min(counts.get(i, 0) for i in range(len(samples))) <= 1


@settings(max_examples=80, deadline=None)
@given(sample_lists(), st.integers(1, 12), st.integers(0, 4), st.integers(0, 9), st.integers(0, 99))
def test_every_step_sees_all_that_forget_and_the_rest_in_turn(
    samples: list[Sample], steps: int, pictures: int, texts: int, seed: int
) -> None:
    asked = TrainingSettings(
        steps=steps, forget_per_step=0, protected_per_step=pictures, questions_per_picture=0, texts_per_step=texts
    )
    found = plan(samples, asked, seed)
    assert len(found) == steps and found == plan(samples, asked, seed)
    forget_ = {i for i, s in enumerate(samples) if s.role == "forget"}
    texts_ = {i for i, s in enumerate(samples) if s.picture is None}
    shown = {s.picture.sha256 for s in samples if s.role == "retain" and s.picture is not None}
    for step in found:
        assert len(set(step)) == len(step) and forget_ <= set(step)
        assert len(texts_ & set(step)) == min(texts, len(texts_))
        here = [i for i in step if i not in forget_ and i not in texts_]
        seen = {p.sha256 for i in here if (p := samples[i].picture) is not None}
        assert len(seen) == min(pictures, len(shown))
        # A picture comes with all its questions.
        assert len(here) == sum(
            s.role == "retain" and s.picture is not None and s.picture.sha256 in seen for s in samples
        )
    counts = Counter(i for s in found for i in s if i in texts_)
    if texts and texts_:
        assert max(counts.values()) - min(counts.get(i, 0) for i in texts_) <= 1


@settings(max_examples=40, deadline=None)
@given(sample_lists(), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_a_step_sees_some_that_forget_and_some_questions_on_a_picture(
    samples: list[Sample], steps: int, forget_: int, questions: int, seed: int
) -> None:
    asked = TrainingSettings(steps=steps, forget_per_step=forget_, questions_per_picture=questions)
    found = plan(samples, asked, seed)
    every = [i for i, s in enumerate(samples) if s.role == "forget"]
    for step in found:
        assert sum(i in every for i in step) == min(forget_, len(every))
        counts = Counter(p.sha256 for i in step if (p := samples[i].picture) is not None and i not in every)
        assert max(counts.values(), default=0) <= questions
    rounds = Counter(i for s in found for i in s if i in every)
    if every:
        assert max(rounds.values()) - min(rounds.get(i, 0) for i in every) <= 1


def test_variations_have_places_of_their_own() -> None:
    shown = [Sample("q", "a", draw("square", i), facet="variation" if i < 4 else "protected") for i in range(10)]
    for step in plan(shown, TrainingSettings(steps=6, protected_per_step=2, variations_per_step=3), 0):
        assert Counter(shown[i].facet for i in step) == {"variation": 3, "protected": 2}


def test_what_forgets_comes_picture_by_picture() -> None:
    several = [Sample(f"q{i}", "a", draw("circle", i % 4), None, "forget", "T1") for i in range(12)]
    steps = plan(several, TrainingSettings(steps=8, forget_per_step=3), 0)
    assert all(len({several[i].picture for i in step}) == 1 for step in steps)
    assert [sorted(i for step in steps[at : at + 4] for i in step) for at in (0, 4)] == [list(range(12))] * 2
    assert len({tuple(step) for step in steps}) == 8


def test_another_seed_is_another_plan() -> None:
    many = [Sample(f"q{i}", "a") for i in range(30)]
    settings_ = TrainingSettings(steps=3, samples_per_step=4)
    assert plan(many, settings_, 0) != plan(many, settings_, 1)


def test_equal_samples_are_told_apart(tiny: VisionLanguageModel) -> None:
    """Two samples of the same content are two samples, in every micro-batch."""
    twice = [Sample("Is it?", "No.", PICTURE), Sample("Is it?", "No.", PICTURE), Sample("Is it?", "No.", PICTURE)]
    encoded = Encoded(tiny, twice, reference="vocabulary")
    orders = [i for _, order in encoded.micro_batches([2, 0, 1]) for i in order]
    assert sorted(orders) == [0, 1, 2]
