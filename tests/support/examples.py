"""Rows of data files and what is read of them."""

from __future__ import annotations

from tspin_mlx.recipe.schema import DataSection

GOOD = {"prompt": "p", "response": "r"}


def section(**keys):
    return DataSection(**({"train": "t.jsonl"} | keys))


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def prompts_of(part):
    return [located.example.messages[-1]["content"] for located in part]
