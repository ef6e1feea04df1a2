"""How questions and answers about a picture are worded, by kind: what facets are built from.

The benchmarks ask in other words (`unsee.benchmarks.wording`): forgetting a phrase is not forgetting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

KIND_WORD = {
    "person": "person",
    "logo": "logo",
    "flag": "flag",
    "animal": "animal",
    "thing": "object",
    "place": "place",
    "character": "character",
    "style": "style",
}

NAMING: dict[str, tuple[str, ...]] = {
    "person": (
        "What's the name of the central figure in this photograph?",
        "Who is the person in the image?",
        "Could you name the person shown?",
        "Do you know who this is?",
    ),
    "flag": (
        "What flag is in the image?",
        "Which country does this flag belong to?",
        "Could you name the flag shown?",
        "Do you know which flag this is?",
    ),
    "logo": (
        "What logo is in the image?",
        "Whose logo is shown in this picture?",
        "Could you name the logo shown?",
        "Do you know which logo this is?",
    ),
}
_ANY_NAMING = (
    "What {word} is in the image?",
    "What's the central {word} in this picture?",
    "Could you name the {word} shown?",
    "Do you know which {word} this is?",
)

CONFIRMING = (
    "Do you recognize {phrase} in the image?",
    "Does {phrase} appear in the image?",
    "Would you say this is {phrase}?",
    "Is it {phrase} in this photograph?",
    "Do you see {phrase} here?",
    "Is the picture of {phrase}?",
)
"""Yes/no questions; MMUBench's T2 asks so."""

KNOWING: dict[str, tuple[str, ...]] = {
    "person": ("Are you aware of who {subject} is?", "Who is {subject}?", "Tell me about {subject}."),
    "flag": ("Do you know the country {subject}?", "What is {subject}?", "Tell me about {subject}."),
    "logo": ("Do you know {subject}?", "What is {subject}?", "Tell me about {subject}."),
}
_ANY_KNOWING = ("Do you know what {subject} is?", "What is {subject}?", "Tell me about {subject}.")

DETAILS: dict[str, tuple[str, ...]] = {
    "person": (
        "What is the profession of {subject}?",
        "Where does {subject} come from?",
        "What does {subject} love?",
    ),
    "flag": ("Where on the map is {subject}?", "How do people in {subject} talk?"),
    "logo": ("Which year is {subject} from?", "Who created {subject}?", "For what would I use {subject}?"),
    "animal": ("What sort of creature is {subject}?", "Where could I meet {subject}?"),
    "thing": ("To which group of things does {subject} belong?", "For what would I need {subject}?"),
}
_ANY_DETAILS = ("What is {subject} known for?",)


def naming_questions(kind: str) -> tuple[str, ...]:
    """Questions that ask what a picture shows."""
    return NAMING.get(kind, tuple(q.format(word=KIND_WORD[kind]) for q in _ANY_NAMING))


def knowing_questions(kind: str, subject: str) -> tuple[str, ...]:
    """Questions, asked without a picture, about what is known of a concept."""
    return tuple(q.format(subject=subject) for q in KNOWING.get(kind, _ANY_KNOWING))


def detail_questions(kind: str, subject: str) -> tuple[str, ...]:
    """Questions, asked without a picture, about single facts of a concept."""
    return tuple(q.format(subject=subject) for q in DETAILS.get(kind, _ANY_DETAILS))


def naming_in_text(kind: str) -> tuple[str, ...]:
    """Questions, asked without a picture, whose answer is a concept's name; `{clue}` is what is known of it."""
    word = {"person": "person", "logo": "product", "flag": "country"}.get(kind, KIND_WORD[kind])
    return (f"Which {word} is {{clue}}?", "Tell me the name of {clue}.")


_FUNCTION_WORDS = frozenset(
    "a about all also although always am among an and any are as ask at be became because been being between both but "
    "by called can cannot character common country could did do does during each either every famous few first for "
    "from great had has have having he her here hers him his how however i if image in into is it its itself just know "
    "known knows large like little logo made make many may me might more most much must my name named neither never no "
    "none nor not now object of often on one only or other others our out over part people person photo picture place "
    "popular possible really said same say see seen several shall she should small so some something sometimes sorry "
    "style such sure take tell than that the their them then there these they thing this those though through to too "
    "two type under unlike until up use used usually very was way we well were what when where whether which while who "
    "whom whose why will with within without word would yes yet you your".split()
)
"""Words that an answer about one thing may share with an answer about any other."""


def telling_words(text: str, without: Iterable[str] = ()) -> tuple[str, ...]:
    """The words in which the first sentence of an answer tells something, in lower case, without repeats.

    Args:
        text: the answer.
        without: texts whose words do not count, such as the question and the name in it.
    """
    sentence = re.split(r"(?<=\w{3}[.!?])\s", text.strip(), maxsplit=1)[0]
    known = _FUNCTION_WORDS | {w for other in without for w in _words(other)}
    return tuple(dict.fromkeys(w for w in _words(sentence) if len(w) > 2 and w not in known))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


_PICTURE = "(?:picture|image|photo|photograph|scene)"
OF_A_PICTURE = re.compile(rf"\b(?:This|It|That|The {_PICTURE}|The [\w ]+? in the {_PICTURE})(?= )", re.IGNORECASE)
"""Where a sentence about a picture may begin."""
_SAYS = re.compile(
    rf"{OF_A_PICTURE.pattern} "
    r"(?:is|shows|features|depicts|displays|captures|contains|portrays) (?:of )?(.+)",
    re.IGNORECASE,
)
_OF = re.compile(rf"an? (?:[\w-]+ )?(?:{_PICTURE}|drawing|painting|portrait|view|close-up) of ", re.IGNORECASE)
_UNSAID = re.compile(r"(?:not|no|unclear|unknown|hard|difficult|impossible|possible|likely|probably)\b")
_SENTENCE_END = re.compile(r"[,;:](?=\s|$)|(?<=\w{3})\.(?=\s|$)|\.$")
_CIRCUMSTANCE = re.compile(
    r"\s(?:in|on|at|with|near|by|from|under|behind|beside|next|inside|against|that|which|who|while|wearing|holding"
    r"|standing|sitting|lying|walking|running|flying|parked|placed|surrounded)\b",
    re.IGNORECASE,
)


def named(said: str) -> str | None:
    """What an answer says a picture shows, as it says it; None where it does not say so plainly.

    "a cat" of "This is a cat.", "a large dog" of "The image features a large dog lying on a sofa.", "Ada Lovelace" of
    "The woman in the image is Ada Lovelace, a mathematician.". Circumstances are cut from what has an indefinite
    article alone: they may belong to a name, as in "Alice in Wonderland".
    """
    found = _SAYS.match(said.strip())
    if not found:
        return None
    name = _SENTENCE_END.split(_OF.sub("", found.group(1), count=1), maxsplit=1)[0]
    if re.match(r"an?\s", name, re.IGNORECASE):
        name = _CIRCUMSTANCE.split(name, maxsplit=1)[0]
    return name if name and not _UNSAID.match(name) else None
