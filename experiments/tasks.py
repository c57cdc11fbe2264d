"""The tasks: what each one teaches, where its examples are from, and what makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

from tspin_mlx.base import filesystem
from tspin_mlx.base.errors import UsageError

from . import instructions, puzzles, snips

#: One example: ``prompt``, ``response``, ``system`` and ``answer``.
Row = dict[str, str]


@dataclass(frozen=True)
class Sizes:
    """How many examples each file gets; a task with fewer test items gives all it has."""

    train: int = 1024
    validation: int = 256
    test: int = 697


@dataclass(frozen=True)
class Task:
    """Something to teach.

    Attributes:
        about: what it is, whose it is, where it is from.
        make: ``make(sizes, seed, source)`` gives the rows of ``train``, ``validation`` and ``test``; the same for the
            same arguments, and no prompt twice.
    """

    about: str
    make: Callable[[Sizes, int, Path | None], dict[str, list[Row]]]


TASKS = {
    "snips": Task(
        "Utterances to an assistant, to JSON with intent and slots: SNIPS 2017, seven intents, 697 test items. "
        "CC0 1.0; Coucke et al. 2018, arXiv 1805.10190; public in the repository sonos/nlu-benchmark, folder "
        "2017-06-custom-intent-engines. --source is that folder, or one with train.jsonl and test.jsonl made of it.",
        lambda sizes, seed, source: snips.examples(*astuple(sizes), seed, source),
    ),
    "number_filtering": Task(
        "Keep or remove the numbers of a list that are larger or smaller than another: three to five whole numbers "
        "from 0 to 99. Made by reasoning-gym (Apache-2.0), which has to be installed.",
        lambda sizes, seed, source: puzzles.examples("number_filtering", *astuple(sizes), seed),
    ),
    "word_sequence_reversal": Task(
        "A list of three to five words in reverse. Made by reasoning-gym (Apache-2.0), which has to be installed.",
        lambda sizes, seed, source: puzzles.examples("word_sequence_reversal", *astuple(sizes), seed),
    ),
    "instructions": Task(
        "Name two to four things of a kind in a form that can be checked, such as capital letters and slashes "
        "between them: many answers are right. Made here, of lists of words.",
        lambda sizes, seed, source: instructions.examples(*astuple(sizes), seed),
    ),
}


def write(name: str, folder: Path, sizes: Sizes, seed: int, source: Path | None) -> dict[str, int]:
    """Write ``train.jsonl``, ``validation.jsonl`` and ``test.jsonl`` of a task.

    Returns:
        The number of rows of each.

    Raises:
        UsageError: a file without rows.
        DataError: the source is missing or too small.
    """
    if min(astuple(sizes)) < 1:
        raise UsageError("train, validation and test need a row each, at least")
    splits = TASKS[name].make(sizes, seed, source)
    for split, rows in splits.items():
        filesystem.write_text(folder / f"{split}.jsonl", filesystem.to_jsonl(rows))
    return {split: len(rows) for split, rows in splits.items()}
