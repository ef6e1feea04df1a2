"""Concepts: how they are named, spoken of and found in answers; samples and packs."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unsee.data.concept import KINDS, Concept, Request, Sample, by_picture, mention, with_article
from unsee.data.pictures import Picture
from unsee.data.wording import named
from unsee.errors import UnseeError


def picture(shade: int) -> Picture:
    return Picture.from_image(Image.new("RGB", (16, 16), (shade, 0, 0)), f"{shade}.png")


@pytest.mark.parametrize(
    ("name", "kind", "core", "phrase", "subject"),
    [
        ("China", "flag", "China", "the flag of China", "China"),
        ("the flag of China", "flag", "China", "the flag of China", "China"),
        ("Flag of China", "flag", "China", "the flag of China", "China"),
        ("the national flag of China", "flag", "China", "the flag of China", "China"),
        ("the China flag", "flag", "China", "the flag of China", "China"),
        ("China national flag", "flag", "China", "the flag of China", "China"),
        ("the United Kingdom", "flag", "United Kingdom", "the flag of the United Kingdom", "the United Kingdom"),
        ("the flag of the Netherlands", "flag", "Netherlands", "the flag of the Netherlands", "the Netherlands"),
        ("flag of the Netherlands", "flag", "Netherlands", "the flag of the Netherlands", "the Netherlands"),
        ("Python", "logo", "Python", "the Python logo", "Python"),
        ("the Python logo", "logo", "Python", "the Python logo", "Python"),
        ("the logo of Red Hat", "logo", "Red Hat", "the Red Hat logo", "Red Hat"),
        ("tiger", "animal", "tiger", "a tiger", "a tiger"),
        ("a tiger", "animal", "tiger", "a tiger", "a tiger"),
        ("hourglass", "thing", "hourglass", "an hourglass", "an hourglass"),
        ("pirate flag", "thing", "pirate flag", "a pirate flag", "a pirate flag"),
        ("flagpole", "thing", "flagpole", "a flagpole", "a flagpole"),
        ("Nolvar Inglewick", "person", "Nolvar Inglewick", "Nolvar Inglewick", "Nolvar Inglewick"),
        ("An Nguyen", "person", "An Nguyen", "An Nguyen", "An Nguyen"),
        ("the Masked Baker", "character", "Masked Baker", "the Masked Baker", "the Masked Baker"),
        ("Aberystwyth Castle", "place", "Aberystwyth Castle", "Aberystwyth Castle", "Aberystwyth Castle"),
        ("The The", "style", "The", "The The", "The The"),
    ],
)
def test_wording(name: str, kind: Any, core: str, phrase: str, subject: str) -> None:
    concept = Concept(name, kind)
    assert (concept.core, concept.phrase, concept.subject) == (core, phrase, subject)


@pytest.mark.parametrize(
    "expected",
    [
        *("an hourglass", "an umbrella", "an octopus", "an airplane", "an heir", "an honest face", "an urn"),
        *("an unidentified object", "an uninhabited island", "an X-ray", "an ATM", "an MRI scanner", "an 8-ball"),
        *("a unicorn", "a uniform", "a unicycle", "a eucalyptus", "a European robin", "a one-way sign", "a user"),
        *("a house", "a horse", "a UFO", "a USB stick", "a T-shirt", "a ukulele", "a 9-ball", "a yacht", "an ox"),
        *("a pair of scissors", "a pair of sunglasses", "popcorn", "corn", "a popcorn machine", "the Eiffel Tower"),
    ],
)
def test_articles(expected: str) -> None:
    noun = re.sub("^(an?|a pair of) ", "", expected.replace("a pair of ", ""))
    assert with_article(noun) == expected
    if not expected.startswith("a pair"):
        assert with_article(expected) == expected, "an article that is there already is not doubled"


def test_names_and_aliases() -> None:
    concept = Concept("  the  flag of\tChina ", "flag", ("PRC", " Red  China ", "", "China", "PRC"))
    assert concept.name == "the flag of China"
    assert concept.names == ("China", "PRC", "Red China")
    assert concept == Concept("the flag of China", "flag", ("PRC", "Red China", "China", "PRC"))


def test_accents_are_composed() -> None:
    typed = unicodedata.normalize("NFD", "Amélie Čapková")
    concept = Concept(typed, "person")
    assert concept.name == "Amélie Čapková"
    assert concept.mentioned_in("This is Amélie Čapková.") and concept.mentioned_in(f"This is {typed}.")


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_an_empty_name_is_refused(name: str) -> None:
    with pytest.raises(UnseeError, match="the concept is empty"):
        Concept(name)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UnseeError, match="unknown kind 'car'; choose one of: person, logo"):
        Concept("Beetle", "car")  # type: ignore[arg-type]


def test_one_text_is_not_a_list_of_aliases() -> None:
    with pytest.raises(UnseeError, match="must be a list of names"):
        Concept("Ada Quillfeather", "person", "Ada")  # type: ignore[arg-type]


FOUND = [
    ("Niger", "This is Niger."),
    ("Niger", "niger"),
    ("Niger", "The capital of NIGER's neighbour"),
    ("Python", "two Pythons, _Python_ and **Python**"),
    ("wolf", "Wolves howl."),
    ("knife", "two knives"),
    ("cherry", "Cherries are red."),
    ("mouse", "three blind mice"),
    ("snowman", "two snowmen"),
    ("cactus", "some cacti"),
    ("bus", "two buses"),
    ("volcano", "volcanoes"),
    ("fox", "foxes"),
    ("hot dog", "hot-dogs"),
    ("Nolvar Inglewick", "It is Nolvar\nInglewick!"),
    ("Nolvar Inglewick", "Nolvar Inglewick’s picture"),
    ("Mira O'Dell", "Mira O’Dell"),
    ("Spider-Man", "Spider Man, Spiderman"),
    ("Spider Man", "a Spider-Man costume"),
    ("Jean-Luc Picard", "This is Jean Luc Picard."),
    ("Beyoncé", "This is Beyonce."),
    ("Amelie Capkova", "This is Amélie Čapková."),
    ("J. K. Rowling", "This is J.K. Rowling."),
    ("J.K. Rowling", "This is JK Rowling."),
    ("JK Rowling", "This is J. K. Rowling."),
    ("Dr. Dre", "This is Dr Dre."),
    ("Martin Luther King Jr.", "Martin Luther King Jr, a minister"),
    ("Donald Trump", "This is Donald J. Trump."),
    ("George Bush", "This is George W Bush."),
    ("U.S.", "the U.S. flag"),
    ("C++", "The C++ logo."),
    (".NET", "It is .NET, of course."),
    ("C", "The C logo, or C's."),
    ("唐纳德", "这是唐纳德。"),
    ("ピカソ", "これはピカソの絵です"),
    ("Трамп", "Это Трамп."),
]
NOT_FOUND = [
    ("Niger", "This is Nigeria."),
    ("yes", "Her eyes are blue."),
    ("Java", "The JavaScript logo."),
    ("Script", "The JavaScript logo."),
    ("Git", "GitHub, digital"),
    ("Go", "There it goes, said Hugo."),
    ("Jam", "James and Jamie"),
    ("C", "The C++ logo, the C# logo."),
    ("ox", "a fox"),
    ("man", "a woman, humane"),
    ("cherry", "cher"),
    ("Nolvar Inglewick", "Nolvar and Inglewick"),
    (".NET", "the internet"),
    ("A.B", "AxB"),
    ("U.S.", "It tells us nothing."),
    ("Donald Trump", "Donald, a trump card"),
    ("Ada Lovelace", "Ada a Lovelace"),
]


@pytest.mark.parametrize(("name", "text"), FOUND)
def test_mentioned(name: str, text: str) -> None:
    assert mention(name).search(text)
    assert Concept(name, "place").mentioned_in(text)


@pytest.mark.parametrize(("name", "text"), NOT_FOUND)
def test_not_mentioned(name: str, text: str) -> None:
    assert not mention(name).search(text)


def test_aliases_count_as_mentions() -> None:
    concept = Concept("Ada Quillfeather", "person", ("the Owl",))
    assert concept.mentioned_in("They call her the owl.")
    assert not concept.mentioned_in("An owl.")


def test_an_empty_mention_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="empty name"):
        mention(" ")


LETTERS = st.text(alphabet="abcdefghijklmnopqrstuvwxyzäßéñбж", min_size=1, max_size=8)


@given(st.lists(LETTERS, min_size=1, max_size=3).map(" ".join), LETTERS, LETTERS)
def test_a_name_is_found_as_a_word_only(name: str, before: str, after: str) -> None:
    assert mention(name).search(f"{before} {name}, {after}")
    assert mention(name).search(f"«{name}»")
    assert not mention(name).search(f"{before}q{name}")
    assert not re.compile("^" + mention(name).pattern, re.IGNORECASE).search(f"{name}q{after}")


@given(st.text(min_size=1), st.sampled_from(KINDS))
def test_any_name_gives_wording_or_a_clear_error(name: str, kind: Any) -> None:
    try:
        concept = Concept(name, kind)
    except UnseeError:
        assert not name.strip()
        return
    assert concept.core.strip() and concept.phrase.strip() and concept.subject.strip()
    assert concept.core in concept.name
    assert Concept(concept.name, kind) == concept
    if not re.search(r"\W", concept.name):
        assert concept.mentioned_in(f"It is {concept.core}.")


def test_a_request_needs_a_picture() -> None:
    with pytest.raises(UnseeError, match="at least one picture"):
        Request(Concept("tiger", "animal"), ())
    assert Request(Concept("tiger", "animal"), (picture(1),)).facts == ()


@pytest.mark.parametrize("phrase", ["Olga Marsh.", "olga", ""])
def test_a_target_phrase_is_part_of_the_answer(phrase: str) -> None:
    with pytest.raises(UnseeError, match="is not part of the answer"):
        Sample("Who is it?", "That is Olga Marsh", target_phrase=phrase)


def test_packs_share_a_picture_by_content() -> None:
    samples = [
        Sample("1", "a", picture(1)),
        Sample("2", "b"),
        Sample("3", "c", picture(2)),
        Sample("4", "d", picture(1)),
        Sample("5", "e"),
    ]
    assert by_picture(samples) == [[0, 3], [1], [2], [4]]
    assert by_picture(samples, [3, 4, 0]) == [[3, 0], [4]]
    assert by_picture([samples[0]] * 2 + [samples[1]] * 2) == [[0, 1], [2], [3]]
    assert by_picture([]) == []


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("This is a cat.", "a cat"),
        ("This is popcorn", "popcorn"),
        ("This is the Docker logo.", "the Docker logo"),
        ("This is a coffee mug. It is white.", "a coffee mug"),
        ("This is Unilever.", "Unilever"),
        ("It is Dr. Seuss, who wrote for children.", "Dr. Seuss"),
        ("The image features a large dog lying on a sofa.", "a large dog"),
        ("The image is a close-up of a cat with green eyes.", "a cat"),
        ("The woman in the image is Ada Lovelace, a mathematician.", "Ada Lovelace"),
        ("The picture shows Alice in Wonderland.", "Alice in Wonderland"),
        ("It is not a circle.", None),
        ("It is unclear what this is.", None),
        ("I can't tell.", None),
        ("", None),
    ],
)
def test_what_an_answer_names(said: str, name: str | None) -> None:
    assert named(said) == name
