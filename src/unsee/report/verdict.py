"""What the numbers say, in plain words: no word that they do not bear out.

How strong the claim may be depends on the share of answers on unseen pictures that no longer give the
concept away, asked for its name and asked yes or no; the weaker of the two decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from unsee.data.concept import Concept
from unsee.report.figures import forgotten, interval, share
from unsee.report.read import Metrics, RunView, Score


class Grade(IntEnum):
    """How far the concept is gone, weakest first."""

    KEPT = 0
    UNCLEAR = 1
    OFTEN = 2
    SOMETIMES = 3
    SELDOM = 4
    SEEMINGLY = 5
    GONE = 6


RULE = (
    "“No longer” is said when at least 95 % of the answers are free of the concept, the 95 % interval starts at 90 % "
    "or above, and the change from the original model is beyond chance; “appears” when only the interval falls short; "
    "“seldom” from 90 %; “still at times” from 75 %; “still often” from 50 %; “still” below. The weaker of naming and "
    "yes/no questions decides, and of several concepts the one that fared worst. Other knowledge counts as lost when a "
    "score falls by 5 points or more and the change is beyond chance; answers count as broken when 10 % or more are "
    "empty, loops or made-up words, and a person as still named in part when 10 % or more have a part of the name."
)
"""The rule by which the headline is worded, for the reader of the page."""

LIMIT = (
    "This is what the model answers to the questions asked here. It does not show that the knowledge is gone from the "
    "weights: fine-tuning on a few pictures may bring it back, and other questions and languages were not tried."
)
"""What no verdict of this kind proves; it stands on every report."""

_KNOWLEDGE = ("specificity", "specificity_naming", "specificity_yes_no", "neighbours", "text_general")

AUGMENTED = (
    "altered copies of the training picture. They are no proof of generalisation: "
    "whether the model recognises the concept in other pictures was not tested."
)
"""What a reader must know of a test on no other pictures."""

_LOST = 5.0
_BROKEN = 10.0
_FEW_PICTURES = 5


@dataclass(frozen=True)
class Verdict:
    """The headline and what stands behind it.

    Args:
        claim: one sentence.
        evidence: paragraphs with the numbers: the forgetting first, then what was kept.
        cautions: what a reader must know before relying on it.
        tone: "good", "mixed", "bad" or "none", for the colour of the dot.
    """

    claim: str
    evidence: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    tone: str = "none"

    @property
    def text(self) -> str:
        """All of it in one paragraph."""
        return " ".join((self.claim, *self.evidence, *self.cautions))


def judge(view: RunView) -> Verdict:
    """The verdict on a run, from its metrics."""
    if view.metrics is None:
        return Verdict("This run has not been tested yet.", ("There are no scores in the run folder.",))
    metrics = view.metrics
    several = len(view.concepts) > 1
    them = "them" if several else "it"
    augmented = view.test_pictures == "augmented"
    where = " in altered copies of the training picture" if augmented else ""
    evidence = tuple(filter(None, (*_forgetting(view, augmented), " ".join(_keeping(metrics, them)))))
    cautions = _cautions(view, augmented)
    asked = [key for key in ("em_naming", "em_yes_no") if metrics.after.get(key)] or ["em"]
    each = view.by_concept or (metrics,)
    graded = [{key: grade(own, key) for key in asked if own.after.get(key)} for own in each]
    if not all(graded):
        claim = f"Whether the model has forgotten {forgotten(view.concepts)} was not measured."
        return Verdict(claim, evidence, cautions)
    known_before = [own.before.get(key) for own, grades in zip(each, graded, strict=True) for key in grades]
    if all(score is not None and score.value >= 50 for score in known_before):
        claim = f"The original model hardly recognised {forgotten(view.concepts)} to begin with, so no forgetting can"
        return Verdict(f"{claim} be shown.", evidence, cautions, "bad")
    worst = min(min(grades.values()) for grades in graded)
    claim = _weakest(view.concepts, graded, worst, where)
    damage = _damage(metrics, them)
    if damage:
        claim += f", {'but' if worst >= Grade.SELDOM else 'and'} {damage}"
    short = damage or augmented or worst < Grade.GONE or not _others_measured(metrics)
    tone = "bad" if worst < Grade.SELDOM else "mixed" if short else "good"
    return Verdict(f"{claim}.", evidence, cautions, tone)


def grade(metrics: Metrics, key: str) -> Grade:
    """How far one score ("em", "em_naming", "em_yes_no") shows the concept gone; it must be there."""
    score, before, change = metrics.after[key], metrics.before.get(key), metrics.change.get(key)
    assert score is not None
    risen = before is None or score.value > before.value
    if change is not None and change.low is not None:
        risen = risen and change.low > 0
    if score.value < 50:
        return Grade.KEPT
    if not risen:
        return Grade.UNCLEAR
    if score.value >= 95:
        return Grade.GONE if score.low is not None and score.low >= 90 else Grade.SEEMINGLY
    if score.value >= 90:
        return Grade.SELDOM
    return Grade.SOMETIMES if score.value >= 75 else Grade.OFTEN


def _weakest(concepts: Sequence[Concept], graded: Sequence[dict[str, Grade]], worst: Grade, where: str) -> str:
    """The claim on the concepts that fared worst; of one concept, on that one."""
    weak = [place for place, grades in enumerate(graded) if min(grades.values()) == worst]
    named = concepts if len(weak) == len(graded) else [concepts[place] for place in weak]
    keys = dict.fromkeys(key for place in weak for key in graded[place])
    grades = {key: min(graded[place][key] for place in weak if key in graded[place]) for key in keys}
    claim = _claim(grades, forgotten(named), where, "them" if len(named) > 1 else "it")
    if len(weak) == len(graded):
        return claim
    return f"Of {len(graded)} concepts forgotten together, {claim[:1].lower()}{claim[1:]}"


def _claim(grades: dict[str, Grade], phrase: str, where: str, them: str) -> str:
    naming, asked = grades.get("em_naming"), grades.get("em_yes_no")
    if naming is not None and asked is not None and naming >= Grade.SELDOM > asked:
        names = {
            Grade.SELDOM: "seldom names",
            Grade.SEEMINGLY: "appears no longer to name",
            Grade.GONE: "no longer names",
        }[naming]
        yes = {
            Grade.KEPT: f"it still says yes when asked whether a picture shows {them}",
            Grade.UNCLEAR: f"yes/no questions do not show {them} forgotten",
            Grade.OFTEN: f"it still often says yes when asked whether a picture shows {them}",
            Grade.SOMETIMES: f"it still says yes at times when asked whether a picture shows {them}",
        }[asked]
        return f"The model {names} {phrase}{where}, but {yes}"
    return {
        Grade.KEPT: f"The model still recognises {phrase}{where}",
        Grade.UNCLEAR: f"It is not shown that the model has forgotten {phrase}{where}",
        Grade.OFTEN: f"The model still often recognises {phrase}{where}",
        Grade.SOMETIMES: f"The model still at times recognises {phrase}{where}",
        Grade.SELDOM: f"The model seldom recognises {phrase}{where}",
        Grade.SEEMINGLY: f"The model appears no longer to recognise {phrase}{where}",
        Grade.GONE: f"The model no longer recognises {phrase}{where}",
    }[min(grades.values())]


def _damage(metrics: Metrics, them: str) -> str:
    broken = metrics.after.get("degenerate_rate")
    was = metrics.before.get("degenerate_rate")
    in_part = metrics.after.get("named_in_part")
    parts = []
    if in_part and in_part.value >= _BROKEN:
        parts.append("many of its answers give a part of the name")
    if any(_fell(metrics, key) for key in _KNOWLEDGE):
        parts.append("it lost knowledge of other concepts")
    if _fell(metrics, "text_kept"):
        parts.append(f"facts about {them} were lost too")
    if broken and broken.value >= _BROKEN and broken.value > (was.value if was else 0):
        parts.append("many of its answers are broken")
    return " and ".join(parts)


def _others_measured(metrics: Metrics) -> bool:
    return any(metrics.before.get(key) and metrics.after.get(key) for key in ("specificity", "neighbours"))


def _fell(metrics: Metrics, key: str) -> bool:
    change = metrics.change.get(key)
    if change is None:
        before, after = metrics.before.get(key), metrics.after.get(key)
        change = Score(after.value - before.value) if before and after else Score(0)
    return change.value <= -_LOST and (change.high is None or change.high < 0)


def _forgetting(view: RunView, augmented: bool) -> list[str]:
    assert view.metrics is not None
    pictures = "altered copies of the training picture" if augmented else "unseen pictures"
    sentences = []
    naming, asked = view.metrics.after.get("em_naming"), view.metrics.after.get("em_yes_no")
    if naming:
        sentences.append(_sentence(view, "em_naming", "name", f"on {pictures} the name is gone"))
    if asked:
        sentences.append(
            _sentence(
                view, "em_yes_no", "yes_no", f"to yes/no questions on {pictures} it neither says yes nor the name"
            )
        )
    if not naming and not asked and view.metrics.after.get("em"):
        sentences.append(_sentence(view, "em", "", f"on {pictures} the concept is gone"))
    return sentences


def _sentence(view: RunView, key: str, form: str, what: str) -> str:
    assert view.metrics is not None
    score, before = view.metrics.after[key], view.metrics.before.get(key)
    assert score is not None
    n = score.n or sum(e.after is not None for e in view.asked("forget") if form in ("", e.form))
    details = [f"95{share(0)[1:]} interval {interval(score)}"] if interval(score) else []
    details += [f"originally {share(before.value)}"] if before else []
    count = f"{n} answers" if n else "the answers"
    return f"In {share(score.value)} of {count} {what}" + (f" ({'; '.join(details)})." if details else ".")


def _keeping(metrics: Metrics, them: str) -> list[str]:
    labels = {
        "specificity": "Other concepts",
        "neighbours": "Others of its kind" if them == "it" else "Others of their kinds",
        "text_kept": f"Facts about {them}, asked without a picture",
    }
    sentences = []
    for key, label in labels.items():
        before, after = metrics.before.get(key), metrics.after.get(key)
        if before and after:
            sentences.append(f"{label}: {share(before.value)} → {share(after.value)}.")
        elif after:
            sentences.append(f"{label}: {share(after.value)} (not measured before).")
    broken = metrics.after.get("degenerate_rate")
    if broken and broken.value >= 5:
        sentences.append(f"Answers that are empty, loops or made-up words: {share(broken.value)}.")
    others = {
        "named_in_part": "Answers with a part of the name",
        "misspelt": "Answers with a misspelt form of the name",
        "misnamed": "Answers that name something else the model knows",
    }
    found = [(label, metrics.after.get(key)) for key, label in others.items()]
    return sentences + [f"{label}: {share(score.value)}." for label, score in found if score and score.value >= 5]


def _cautions(view: RunView, augmented: bool) -> tuple[str, ...]:
    cautions = []
    if augmented:
        cautions.append(f"The test pictures are {AUGMENTED}")
    if view.metrics and not _others_measured(view.metrics):
        cautions.append("Whether it still recognises other things was not measured.")
    tested: dict[str, set[str]] = {}
    for e in view.asked("forget"):
        if e.after is not None:
            tested.setdefault(e.subject, set()).add(e.picture)
    fewest = min(map(len, tested.values()), default=0)
    if 0 < fewest < _FEW_PICTURES and not augmented:
        count = "one unseen picture was" if fewest == 1 else f"{fewest} unseen pictures were"
        of = " of one of the concepts" if len(tested) > 1 else ""
        cautions.append(f"Only {count} tested{of}; more would make this firmer.")
    return tuple(cautions)
