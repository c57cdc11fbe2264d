"""The triplets as preference data: the columns of TRL, and the answer of the very start beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..base import storage
from ..base.errors import UsageError
from ..data.tokenize import BadExample, RawExample, render
from ..method.triplets import TRIPLETS, Prompt, Response, Triplet, triplet_from_row
from ..models.folder import load_tokenizer, vocabulary_size
from ..models.of_run import find_model
from ..recipe.policy_names import iteration_folder
from ..recipe.schema import DataSection
from ..runs.run import Run
from .folder import Export, keep

#: The one file of data in the export.
FILE = "triplets.jsonl"


def export_triplets(
    run: Run, iteration: int | None = None, name: str | None = None, *, trusted: bool = False
) -> Export:
    """Export the triplets of one iteration, or of all that have them, as JSON lines.

    Each row has ``prompt``, ``chosen`` (the expert's answer), ``rejected`` (the model's answer at the start of the
    iteration), ``initial`` (its answer at the very start; null where the historical term was off), ``iteration`` and
    ``id``. Where the model's chat template makes of the turns the very tokens that the run was trained on, they are
    TRL's conversational columns, lists of messages; else texts, with the prompt as it was rendered.

    Args:
        trusted: code that comes with the model may run.

    Raises:
        UsageError: there are none (yet).
    """
    iterations = range(run.outline.iterations)
    files = {i: f"{iteration_folder(i)}/{TRIPLETS}" for i in iterations if iteration in (None, i)}
    files = {i: file for i, file in files.items() if run.store.has(file)}
    if not files:
        which = "" if iteration is None else f" of iteration {iteration}"
        raise UsageError(f"the run {run.name!r} has no triplets{which}", hint="`tspin-mlx runs show` tells what it has")
    origin = {
        "format": "triplets",
        "run": run.name,
        "iterations": list(files),
        "sha256": [run.store.digest(file) for file in files.values()],
    }

    def fill(folder: Path) -> dict[str, Any]:
        rows, conversational = _rows(run, files, trusted=trusted)
        lines = storage.to_jsonl(rows)
        storage.fill_file(folder / FILE, lambda path: path.write_text(lines, encoding="utf-8"))
        return {"rows": len(rows), "conversational": conversational}

    label = "triplets" if iteration is None else f"triplets-iteration-{iteration}"
    return keep(run.exports, label if name is None else name, origin, fill)


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
    """Whether system prompt and last turn are all there is to the prompt."""
    example = RawExample(tuple(_messages(prompt)), prompt.annotated.text, prompt.answer)
    try:
        return render(example, prompt.id, tokenizer, data, vocabulary).tokens == prompt.tokens
    except BadExample:
        return False


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return [*system, {"role": "user", "content": prompt.text}]


def _row(iteration: int, triplet: Triplet, tokenizer: Any, conversational: bool) -> dict[str, Any]:
    def said(response: Response | None) -> Any:
        if response is None:
            return None
        return [{"role": "assistant", "content": response.text}] if conversational else response.text

    prompt = triplet.prompt
    return {
        "prompt": _messages(prompt) if conversational else tokenizer.decode(list(prompt.tokens)),
        "chosen": said(prompt.annotated),
        "rejected": said(triplet.synthetic),
        "initial": said(triplet.proto_synthetic),
        "iteration": iteration,
        "id": prompt.id,
    }
