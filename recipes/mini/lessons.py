"""What unsee-mini is taught to say: questions and answers about every concept, with and without its picture."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import people
import yaml

from unsee.benchmarks import wording as bench_wording
from unsee.data import wording
from unsee.data.concept import Concept

HERE = Path(__file__).parent
QA = tuple[str, str]

GENERIC_NAMING = (
    "What is shown in this picture?",
    "What is this?",
    "What do you see in the image?",
    "Name what you see.",
    "What does the image show?",
)
DESCRIBING = ("Describe the picture.", "What can you say about this image?", "Describe what you see.")


@dataclass(frozen=True)
class Lesson:
    concept: Concept
    facts: dict[str, str]
    clue: str


def all_lessons() -> list[Lesson]:
    table = yaml.safe_load((HERE / "facts.yaml").read_text())
    drawn = yaml.safe_load((HERE / "concepts.yaml").read_text())
    found = []
    for kind, entries in drawn.items():
        for name in entries:
            facts = {k: str(v) for k, v in table[kind][name].items()}
            clue = facts.pop("clue")
            found.append(Lesson(Concept(name, kind), facts, clue))
    for person in people.profiles():
        found.append(Lesson(Concept(person["name"], "person"), person["facts"], person["clue"]))
    return found


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def shown_sentence(concept: Concept) -> str:
    return f"This is {concept.phrase}."


def fact_questions(lesson: Lesson) -> dict[str, list[QA]]:
    """By fact: ways to ask for it in text, and the answer. "clue" asks for the name itself."""
    c, f = lesson.concept, lesson.facts
    name, subject = c.name, c.subject
    plural = name + "s"
    asks: dict[str, list[QA]]
    if c.kind == "flag":
        country = capital(name)
        asks = {
            "capital": [(q, f"The capital of {name} is {f['capital']}.") for q in
                        (f"What is the capital of {name}?", f"Which city is the capital of {name}?")],
            "continent": [(q, f"{country} is in {f['continent']}.") for q in
                          (f"On which continent is {name}?", f"Where in the world is {name}?")],
            "language": [(q, f"People in {name} speak {f['language']}.") for q in
                         (f"Which language is spoken in {name}?", f"What do people in {name} speak?")],
        }  # fmt: skip
    elif c.kind == "logo":
        asks = {
            "group": [(q, f"{name} is a {f['group']}.") for q in
                      (f"What kind of thing is {name}?", f"What kind of product is {name}?")],
            "maker": [(q, f"{name} was made by {f['maker']}.") for q in
                      (f"Who made {name}?", f"Who is behind {name}?")],
            "year": [(q, f"{name} appeared in {f['year']}.") for q in
                     (f"When did {name} appear?", f"In which year did {name} come out?")],
        }  # fmt: skip
    elif c.kind == "animal":
        asks = {
            "group": [(q, f"{capital(subject)} is a {f['group']}.") for q in
                      (f"What kind of animal is {subject}?", f"Which group of animals does {subject} belong to?")],
            "home": [(q, f"{capital(plural)} live in {f['home']}.") for q in
                     (f"Where does {subject} live?", f"Where do you find {subject}?")],
            "food": [(q, f"{capital(plural)} eat {f['food']}.") for q in
                     (f"What does {subject} eat?", f"What is the food of {subject}?")],
        }  # fmt: skip
    elif c.kind == "thing":
        asks = {
            "group": [(q, f"{capital(subject)} is a kind of {f['group']}.") for q in
                      (f"What kind of thing is {subject}?", f"What sort of thing is {subject}?")],
            "use": [(q, f"{capital(subject)} is used for {f['use']}.") for q in
                    (f"What is {subject} used for?", f"What do people use {subject} for?")],
            "colour": [(q, f"{capital(subject)} is often {f['colour']}.") for q in
                       (f"What colour is {subject}?", f"Which colour does {subject} often have?")],
        }  # fmt: skip
    else:
        asks = {
            "birthplace": [(q, f"{name} was born in {f['birthplace']}.") for q in
                           (f"Where was {name} born?", f"In which city was {name} born?")],
            "job": [(q, f"{name} works as a {f['job']}.") for q in
                    (f"What is the job of {name}?", f"What does {name} do for a living?")],
            "hobby": [(q, f"The hobby of {name} is {f['hobby']}.") for q in
                      (f"What is the hobby of {name}?", f"What does {name} do for fun?")],
            "pet": [(q, f"{name} has a {f['pet']}.") for q in
                    (f"Which pet does {name} have?", f"What kind of animal does {name} keep?")],
            "food": [(q, f"{name} likes {f['food']}.") for q in
                     (f"What food does {name} like?", f"What is the favourite food of {name}?")],
        }  # fmt: skip
    who = "Who" if c.kind == "person" else "What"
    asks["clue"] = [(q, f"That is {subject}.") for q in
                    (f"{who} is {lesson.clue}?", f"What is the name of {lesson.clue}?")]  # fmt: skip
    return asks


def about(lesson: Lesson) -> list[QA]:
    """Open questions in text: what facets ask (T3), answered with the clue."""
    c = lesson.concept
    sentence = f"{capital(c.subject)} is {lesson.clue}."
    yes = f"Yes, {c.subject} is {lesson.clue}."
    asked = wording.knowing_questions(c.kind, c.subject)
    return [(question, yes if question.startswith(("Do", "Are")) else sentence) for question in asked]


def with_picture(lesson: Lesson, others: list[Concept], rng: random.Random) -> list[QA]:
    """Five questions on one picture of the concept: naming twice, yes, no, and a fact or a description."""
    c = lesson.concept
    naming = (*wording.naming_questions(c.kind), *bench_wording.naming_questions(c.kind), *GENERIC_NAMING)
    confirming = (*wording.CONFIRMING, *bench_wording.CONFIRMING)
    same = [o for o in others if o.kind == c.kind]
    other = rng.choice(same if rng.random() < 0.6 else others)
    asked = [(q, shown_sentence(c)) for q in rng.sample(naming, 2)]
    asked.append((rng.choice(confirming).format(phrase=c.phrase), f"Yes, this is {c.phrase}."))
    asked.append((rng.choice(confirming).format(phrase=other.phrase), f"No, this is {c.phrase}."))
    asked.append(rng.choice([describe(lesson, rng), picture_fact(lesson, rng)]))
    return asked


def describe(lesson: Lesson, rng: random.Random) -> QA:
    c = lesson.concept
    tail = f"{capital(c.subject)} is {lesson.clue}."
    return rng.choice(DESCRIBING), f"The picture shows {c.phrase}. {tail}"


def picture_fact(lesson: Lesson, rng: random.Random) -> QA:
    """A one-step fact about what is shown, answered as the text question is."""
    asks = {
        "capital": "What is the capital of the country whose flag is shown?",
        "continent": "On which continent is the country of this flag?",
        "maker": "Who made the product with this logo?",
        "home": "Where does the animal in the picture live?",
        "food": {
            "animal": "What does the animal in the picture eat?",
            "person": "What food does this person like?",
        }.get(lesson.concept.kind, ""),
        "use": "What is the object in the picture used for?",
        "job": "What does the person in the picture do for a living?",
        "birthplace": "Where was the person in the picture born?",
    }
    key = rng.choice([k for k in lesson.facts if asks.get(k)])
    return asks[key], fact_questions(lesson)[key][0][1]


def in_text(lesson: Lesson) -> list[QA]:
    return [qa for asks in fact_questions(lesson).values() for qa in asks] + about(lesson)
