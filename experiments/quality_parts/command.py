"""What the scripts' command lines share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch

import unsee
from quality_parts.jobs import Sizes
from unsee.models import VisionLanguageModel, fitting_dtype

Item = TypeVar("Item")
Part = tuple[int, int]
"""(K, N): every N-th, the K-th first."""


def parser_for(doc: str | None, results: str, sizes: Sizes) -> argparse.ArgumentParser:
    """A parser with what every script takes; the docstring of the script is its help.

    Args:
        doc: the docstring.
        results: the file of results where none is named.
        sizes: of the questions where nothing is said.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("experiments/results") / results)
    add_model(parser)
    parser.add_argument("--plan", action="store_true", help="say how many runs, answers and hours, and run nothing")
    add_part(parser)
    parser.add_argument("--tables", action="store_true", help="print the tables of what is there, and run nothing")
    asked = parser.add_argument_group("how much is asked, before and after")
    asked.add_argument("--test-pictures", type=int, default=sizes.test_pictures, help="unseen pictures of the concept")
    asked.add_argument("--utility-pictures", type=int, default=sizes.utility_pictures, help="of each other concept")
    asked.add_argument("--neighbour-pictures", type=int, default=sizes.neighbour_pictures,
                       help="of each other concept of the same kind")  # fmt: skip
    asked.add_argument("--general-questions", type=int, default=sizes.general_questions,
                       help="in text, about each other concept")  # fmt: skip
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """Where the embedded model is put, and how precise it is."""
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], help="default: bfloat16 where the device has it")


def add_part(parser: argparse.ArgumentParser) -> None:
    """What one of several processes runs."""
    parser.add_argument(
        "--part",
        type=_part,
        default=(1, 1),
        metavar="K/N",
        help="run the K-th of N parts: for processes side by side, each with its own --json; `cat` joins the files",
    )


def dtype_of(args: argparse.Namespace) -> torch.dtype:
    return getattr(torch, args.dtype) if args.dtype else fitting_dtype(args.device)


def opened(args: argparse.Namespace) -> VisionLanguageModel:
    """The embedded model, as `add_model` asks for it."""
    return unsee.open_model("mini", args.device, dtype_of(args))


def _part(text: str) -> Part:
    k, slash, n = text.partition("/")
    if not (slash and k.isdigit() and n.isdigit() and 1 <= int(k) <= int(n)):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N, as in 1/2")
    return int(k), int(n)


def part_of(items: Sequence[Item], part: Part) -> Sequence[Item]:
    """The share of one of several processes."""
    k, n = part
    return items[k - 1 :: n]


def sizes_of(args: argparse.Namespace) -> Sizes:
    return Sizes(args.test_pictures, args.utility_pictures, args.neighbour_pictures, args.general_questions)


def value_of(text: str) -> int | float | str | bool:
    """A setting's value as typed."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
