"""Export triplets as preference data (JSON lines with TRL's columns, for DPO), with the model's first answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..base import filesystem
from ..base.errors import UsageError
from ..data.tokenize import BadExample, RawExample, render
from ..method.triplets import TRIPLETS, Prompt, Response, Triplet, triplet_from_row
from ..models.folder import load_tokenizer, vocabulary_size
from ..models.of_run import find_model
from ..recipe.policy_names import iteration_folder
from ..recipe.schema import DataSection
from ..runs.run import Run
from .folder import Export, make_export

#: The data file of the export.
FILE = "triplets.jsonl"


def export_triplets(
    run: Run, iteration: int | None = None, name: str | None = None, *, trusted: bool = False
) -> Export:
    """Export the triplets of one iteration, or of all that have them, as JSON lines.

    Each row has ``prompt``, ``chosen`` (the expert's answer), ``rejected`` (the model's answer at the start of the
    iteration), ``initial`` (its first answer; null if the historical term was off), ``iteration`` and ``id``. They are
    TRL's conversational columns, lists of messages, if the chat template renders them to exactly the tokens of
    training; else plain texts, with the rendered prompt.

    Args:
        iteration: None for all.
        trusted: whether the model's own Python code may run.

    Raises:
        UsageError: there are none (yet).
    """
    iterations = range(run.outline.iterations)
    files = {i: f"{iteration_folder(i)}/{TRIPLETS}" for i in iterations if iteration in (None, i)}
    files = {i: file for i, file in files.items() if run.store.has(file)}
    if not files:
        which = "" if iteration is None else f" of iteration {iteration}"
        raise UsageError(f"the run {run.name!r} has no triplets{which}", hint="`tspin-mlx runs show` shows what it has")
    origin = {
        "format": "triplets",
        "run": run.name,
        "iterations": list(files),
        "sha256": [run.store.digest(file) for file in files.values()],
    }

    def fill(folder: Path) -> dict[str, Any]:
        rows, conversational = _rows(run, files, trusted=trusted)
        lines = filesystem.to_jsonl(rows)
        filesystem.fill_file(folder / FILE, lambda path: path.write_text(lines, encoding="utf-8"))
        return {"rows": len(rows), "conversational": conversational}

    label = "triplets" if iteration is None else f"triplets-iteration-{iteration}"
    return make_export(run.exports, label if name is None else name, origin, fill)


def _rows(run: Run, files: dict[int, str], *, trusted: bool) -> tuple[list[dict[str, Any]], bool]:
    recipe = run.recipe()
    data, model = recipe.data, find_model(run, recipe, trusted=trusted)
    tokenizer = load_tokenizer(model)
    triplets = [(i, triplet_from_row(row)) for i, file in files.items() for row in run.store.read_jsonl(file)]
    prompts = {triplet.prompt.id: triplet.prompt for _, triplet in triplets}
    vocabulary = vocabulary_size(model)
    conversational = data.template == "chat" and all(
        _is_of_these_turns(prompt, tokenizer, data, vocabulary) for prompt in prompts.values()
    )
    return [_row(i, triplet, tokenizer, conversational) for i, triplet in triplets], conversational


def _is_of_these_turns(prompt: Prompt, tokenizer: Any, data: DataSection, vocabulary: int) -> bool:
    """Return whether the prompt consists of just its system prompt and last turn."""
    example = RawExample(tuple(_messages(prompt)), prompt.annotated.text, prompt.answer)
    try:
        return render(example, prompt.id, tokenizer, data, vocabulary).tokens == prompt.tokens
    except BadExample:
        return False


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return [*system, {"role": "user", "content": prompt.text}]


def _row(iteration: int, triplet: Triplet, tokenizer: Any, conversational: bool) -> dict[str, Any]:
    def column(response: Response | None) -> Any:
        if response is None:
            return None
        return [{"role": "assistant", "content": response.text}] if conversational else response.text

    prompt = triplet.prompt
    return {
        "prompt": _messages(prompt) if conversational else tokenizer.decode(list(prompt.tokens)),
        "chosen": column(prompt.annotated),
        "rejected": column(triplet.synthetic),
        "initial": column(triplet.proto_synthetic),
        "iteration": iteration,
        "id": prompt.id,
    }
