"""Read examples from JSONL, JSON, CSV, Parquet or the Hub, validate, split and tokenise them.

Nothing is written until every row is valid.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..base.errors import DataError, HubError, SetupError
from ..base.hub import hub_errors
from ..base.seeds import derive
from ..base.text import first_line
from ..method.triplets import Prompt
from ..recipe.schema import DataSection
from .tokenize import BadExample, RawExample, read_example, render

_LONGEST_LINE = 10_000_000  # characters; with longer lines it must be the wrong file
_SHOWN = 5  # bad rows in an error message
_WHERE_FILES_ARE = "paths in a recipe are relative to the recipe, on the command line to the current folder"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Located:
    """An example with its place, such as ``train.jsonl:17``."""

    place: str
    example: RawExample

    @property
    def id(self) -> str:
        """The row's own id, else its place."""
        return self.example.id or self.place


@dataclass(frozen=True)
class Splits(Generic[Item]):
    """The three parts of the data.

    Attributes:
        train: training examples.
        validation: examples that choose the best iteration.
        test: used once, at the end; may be empty.
        skipped: places of skipped rows with the reasons.
    """

    train: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    skipped: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of examples in each split."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def load_examples(data: DataSection, folder: Path, seed: int) -> Splits[Located]:
    """Read and split all data of a recipe.

    Args:
        folder: base of relative paths.
        seed: the run's seed; it decides the split and which rows a limit keeps.

    Raises:
        DataError: a missing file, or a row that cannot be used (unless ``data.skip_bad_rows``).
    """
    skipped: list[str] = []
    train = _read(data.train, data, folder, skipped)
    if data.validation is not None:
        validation = _read(data.validation, data, folder, skipped)
    else:
        if len(train) <= data.validation_size:
            raise DataError(
                f"{data.train}: {len(train)} rows are too few to set aside {data.validation_size} for validation",
                hint="set data.validation to a file, or reduce data.validation_size",
            )
        train = _shuffled(train, derive(seed, "split"))
        train, validation = train[data.validation_size :], train[: data.validation_size]
    test = _read(data.test, data, folder, skipped) if data.test is not None else []
    return Splits(
        train=_limited(train, data.train_limit, derive(seed, "limit", "train")),
        validation=_limited(validation, data.validation_limit, derive(seed, "limit", "validation")),
        test=_limited(test, data.test_limit, derive(seed, "limit", "test")),
        skipped=tuple(skipped),
    )


def render_examples(
    splits: Splits[Located], data: DataSection, tokenizer: Any, vocab_size: int, context: int | None
) -> Splits[Prompt]:
    """Tokenise examples with the recipe's template.

    Args:
        context: the model's context length, which limits ``data.max_tokens``.

    Raises:
        DataError: a row that is too long or does not fit the template (unless ``data.skip_bad_rows``), or no
            training or validation row is left.
    """
    data, skipped = _within(data, context), list(splits.skipped)

    def rendered(part: Sequence[Located]) -> tuple[Prompt, ...]:
        return _rendered(part, data, tokenizer, vocab_size, skipped)

    done = Splits(rendered(splits.train), rendered(splits.validation), rendered(splits.test))
    if not done.train or not done.validation:
        raise DataError(f"{data.train}: no usable row is left", hint=skipped[0] if skipped else None)
    return replace(done, skipped=tuple(skipped))


def first_rows(data: DataSection, folder: Path, count: int) -> list[tuple[str, RawExample | BadExample]]:
    """Read the first rows of the training file: each with its place, and an example or the reason why it is invalid.

    Raises:
        DataError: the file is missing, or of an unknown type.
    """
    rows: list[tuple[str, RawExample | BadExample]] = []
    for place, row in islice(_file_rows(data.train, folder), count):
        try:
            rows.append((place, row if isinstance(row, BadExample) else read_example(row, data)))
        except BadExample as error:
            rows.append((place, error))
    return rows


def read_prompts(
    source: str, data: DataSection, tokenizer: Any, vocab_size: int, context: int | None
) -> tuple[tuple[Prompt, ...], tuple[str, ...]]:
    """Read and tokenise all examples of one file, relative to the current folder, or of a dataset on the Hub.

    Returns:
        The tokenised examples, at least one, and the reasons for skipped rows.

    Raises:
        DataError: see :func:`load_examples` and :func:`render_examples`.
    """
    skipped: list[str] = []
    located = _read(source, data, Path(), skipped)
    prompts = _rendered(located, _within(data, context), tokenizer, vocab_size, skipped)
    if not prompts:
        raise DataError(f"{source}: no usable row is left", hint=skipped[0])
    return prompts, tuple(skipped)


def _within(data: DataSection, context: int | None) -> DataSection:
    if context is not None and context < data.max_tokens:
        return data.model_copy(update={"max_tokens": context})
    return data


def _rendered(
    part: Sequence[Located], data: DataSection, tokenizer: Any, vocab_size: int, skipped: list[str]
) -> tuple[Prompt, ...]:
    prompts, wrong = [], []
    for located in part:
        try:
            prompts.append(render(located.example, located.id, tokenizer, data, vocab_size))
        except BadExample as error:
            wrong.append(f"{located.place}: {error}")
    skipped += _skipped(wrong, data.skip_bad_rows)
    return tuple(prompts)


def is_remote(source: str) -> bool:
    """Return whether a data source is a Hub dataset."""
    return source.startswith("hub:")


def _read(source: str, data: DataSection, folder: Path, skipped: list[str]) -> list[Located]:
    """Read all valid rows of one source."""
    rows = _hub_rows(source) if is_remote(source) else _file_rows(source, folder)
    examples: list[Located] = []
    places: dict[str, str] = {}
    wrong = []
    for place, row in rows:
        try:
            if isinstance(row, BadExample):
                raise row
            example = read_example(row, data)
            if example.id is not None and (first := places.setdefault(example.id, place)) != place:
                raise BadExample(f"id {example.id!r} was already used at {first}")
        except BadExample as error:
            wrong.append(f"{place}: {error}")
        else:
            examples.append(Located(place, example))
    skipped += _skipped(wrong, data.skip_bad_rows)
    if not examples:
        raise DataError(f"{source}: no usable row")
    return examples


def _skipped(reasons: list[str], skip: bool) -> list[str]:
    """Return the reasons if bad rows are to be skipped; else raise an error with the first few."""
    if not reasons or skip:
        return reasons
    hint = "fix the row, or skip bad rows with data.skip_bad_rows=true"
    if len(reasons) == 1:
        raise DataError(reasons[0], hint=hint)
    more = [f"and {len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
    shown = "".join(f"\n  {reason}" for reason in (*reasons[:_SHOWN], *more))
    raise DataError(f"{len(reasons)} rows cannot be used:{shown}", hint=hint.replace("the row", "them", 1))


def _file_rows(source: str, folder: Path) -> Iterator[tuple[str, Any]]:
    path = folder / (Path(source).expanduser() if source.startswith("~/") else Path(source))
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    readers = {".jsonl": _jsonl_rows, ".json": _json_rows, ".csv": _csv_rows}
    if path.suffix not in readers:
        raise DataError(f"{source}: unknown file type; known: .jsonl, .json, .csv, .parquet")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", hint=_WHERE_FILES_ARE) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except ValueError as error:  # a NUL in the name
        raise DataError(f"{source!r}: not a file name: {error}") from None
    yield from readers[path.suffix](path.name, text)


def _jsonl_rows(name: str, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > _LONGEST_LINE:
            yield f"{name}:{number}", BadExample(f"a line of {len(line):,} characters is not an example")
        elif line.strip():
            yield f"{name}:{number}", _decoded(line)


def _json_rows(name: str, text: str) -> Iterator[tuple[str, Any]]:
    rows = _decoded(text)
    if isinstance(rows, BadExample):
        raise DataError(f"{name}: {rows}")
    if not isinstance(rows, list):
        raise DataError(f"{name}: must be a list of rows")
    for number, row in enumerate(rows, start=1):
        yield f"{name}: row {number}", row


def _csv_rows(name: str, text: str) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            place = f"{name}:{reader.line_num}"
            if None in row or None in row.values():
                yield place, BadExample("does not have as many fields as the header")
            else:
                yield place, row
    except csv.Error as error:
        raise DataError(f"{name}:{reader.line_num + 1}: not valid CSV: {error}") from None


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        return BadExample(f"not valid JSON: {error.msg} at column {error.colno}")
    except (RecursionError, ValueError):  # ValueError: a number with too many digits
        return BadExample("not valid JSON: nested too deeply, or a number is too long")


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SetupError(f"{path}: reading Parquet needs pyarrow", hint='pip install "tspin-mlx[data]"') from None
    try:
        table = pyarrow.parquet.read_table(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", hint=_WHERE_FILES_ARE) from None
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from None
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{path.name}: row {number}", row


def _hub_rows(source: str) -> Iterator[tuple[str, Any]]:
    parts = source.split(":")[1:]
    if len(parts) not in (2, 3) or not all(parts):
        raise DataError(f"{source}: a Hub dataset is hub:ID:SPLIT or hub:ID:CONFIG:SPLIT")
    try:
        import datasets
    except ImportError:
        raise SetupError(
            f"{source}: reading Hub datasets needs a package", hint='pip install "tspin-mlx[data]"'
        ) from None
    with hub_errors(f"dataset {parts[0]!r}", f"datasets/{parts[0]}", "fetched"):
        try:
            rows = datasets.load_dataset(*parts[:-1], split=parts[-1])
        except (ValueError, datasets.exceptions.DatasetsError) as error:
            hint = "check the name, the network and `hf auth whoami`"
            raise HubError(f"{source}: {first_line(error)}", hint=hint) from None
    for number, row in enumerate(rows, start=1):
        yield f"{source} row {number}", row


def _shuffled(items: list[Located], seed: int) -> list[Located]:
    order = list(items)
    random.Random(seed).shuffle(order)
    return order


def _limited(items: list[Located], limit: int | None, seed: int) -> tuple[Located, ...]:
    if limit is None or limit >= len(items):
        return tuple(items)
    kept = sorted(random.Random(seed).sample(range(len(items)), limit))
    return tuple(items[i] for i in kept)
