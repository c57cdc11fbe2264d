"""SNIPS: from the public repository's files, or from rows already made of them, to examples."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tspin_mlx.base.errors import DataError

SYSTEM = "Reply with JSON: intent and slots."


def examples(train: int, validation: int, test: int, seed: int, source: Path | None) -> dict[str, list[dict[str, str]]]:
    """So many rows for training and validation, drawn from the public training set; those for the test from its
    validation set, which is the public test.

    Raises:
        DataError: no source, or too few rows in it.
    """
    if source is None:
        raise DataError("snips is not part of the package", hint="--source FOLDER; see `data --help` for where it is")
    public = _public(source) if any(source.glob("*/validate_*.json")) else _made(source)
    held_out = _distinct(public["test"])
    known = {row["prompt"] for row in held_out}
    rest = [row for row in _distinct(public["train"]) if row["prompt"] not in known]
    if len(rest) < train + validation:
        raise DataError(f"{source}: {len(rest)} training rows are too few for {train} and {validation}")
    shuffle = random.Random(seed).shuffle
    shuffle(rest)
    if test < len(held_out):
        shuffle(held_out)
    return {"train": rest[:train], "validation": rest[train : train + validation], "test": held_out[:test]}


def convert(content: dict[str, list[dict[str, Any]]]) -> list[dict[str, str]]:
    """The rows of one file of the public repository.

    ``{"RateBook": [{"data": [{"text": "give "}, {"text": "this novel", "entity": "object_select"}, ...]}, ...]}``: an
    utterance is a list of stretches of text, and those that fill a slot say which. A slot that is filled several times
    gets a list.
    """
    rows = []
    for intent, utterances in content.items():
        for utterance in utterances:
            parts = utterance["data"]
            slots: dict[str, Any] = {}
            for part in parts:
                if name := part.get("entity"):
                    slots.setdefault(name, []).append(_tidy(part["text"]))
            plain = {name: values[0] if len(values) == 1 else values for name, values in slots.items()}
            answer = json.dumps({"intent": intent, "slots": plain}, ensure_ascii=False)
            prompt = _tidy("".join(part["text"] for part in parts))
            rows.append({"system": SYSTEM, "prompt": prompt, "response": answer, "answer": answer})
    return rows


def _public(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Of ``INTENT/train_INTENT_full.json`` and ``INTENT/validate_INTENT.json``."""
    found = {}
    for split, pattern in (("train", "*/train_*_full.json"), ("test", "*/validate_*.json")):
        found[split] = [row for path in sorted(folder.glob(pattern)) for row in convert(json.loads(_text(path)))]
    return found


def _made(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Of ``train.jsonl`` and ``test.jsonl``."""
    found = {}
    for split in ("train", "test"):
        path = folder / f"{split}.jsonl"
        if not path.is_file():
            raise DataError(f"{path}: no such file", hint="--source needs SNIPS; see `data --help` for where it is")
        found[split] = [json.loads(line) for line in _text(path).split("\n") if line]
    return found


def _text(path: Path) -> str:
    """Some of the public files are not UTF-8 but Latin-1."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _distinct(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The first row of each prompt."""
    return list({row["prompt"]: row for row in reversed(rows)}.values())[::-1]
