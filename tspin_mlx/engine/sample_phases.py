"""The phases that sample: generate the policy's answers in shards, and build triplets from them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ..evaluation.guard import nothing_left
from ..generation.batch import Decoding
from ..method.triplets import Prompt, Response, build_triplets, response_from_row, samples_name, to_row
from ..recipe.phase import Phase
from ..recipe.policy_names import iteration_folder
from ..recipe.schema import GenerationSection
from ..tspin import answer
from .context import Context


def generate(context: Context, phase: Phase) -> None:
    """Sample one response per self-play prompt, in shards; a stopped run keeps complete shards."""
    prompts, store = context.self_play_prompts, context.store
    folder = Path(phase.target)
    aside = folder.with_name(f".{folder.name}.partial").as_posix()
    section = context.plan.recipe.generation
    decoding = Decoding(section.temperature, section.top_p, section.max_tokens, section.batch_size)
    report = context.progress(phase, len(prompts))
    started, new_tokens = time.perf_counter(), 0
    kept = _intact_shards(context, aside)
    parts = {f"{aside}/shard-{i:04}.jsonl": part for i, part in enumerate(shards(prompts, section))}
    finished = sum(len(part) for file, part in parts.items() if file in kept)
    if finished:
        context.emit("resumed", phase=phase.target, done=finished, total=len(prompts))
    for file, chosen in parts.items():
        if file in kept:
            continue

        def on_progress(done: int, tokens: int, seconds: float, before: int = finished) -> None:
            report(before + done, tokens, seconds)

        responses = answer(context.policy, chosen, decoding, phase.seed, on_progress)
        finished += len(chosen)
        new_tokens += sum(len(response.tokens) for response in responses)
        store.write_jsonl(file, [{"id": x.id, **to_row(r)} for x, r in zip(chosen, responses, strict=True)])
    elapsed = time.perf_counter() - started
    store.commit_folder(aside, phase.target)
    measures = sample_measures(prompts, read_samples(context, phase.target, prompts))
    context.emit(
        "generated",
        phase=phase.target,
        iteration=phase.iteration,
        **measures,
        **{"generate/tokens_per_s": new_tokens / elapsed},
    )
    context.warn(nothing_left(measures["generate/identical"], len(prompts)))


def pair(context: Context, phase: Phase) -> None:
    """Build the iteration's triplets of x, y, y' and y0; without y0 if the historical term is off."""
    iteration, prompts = phase.iteration or 0, context.self_play_prompts
    historical = bool(context.plan.recipe.objective.historical_weight(iteration))
    initial = read_samples(context, samples_folder(0), prompts) if historical else None
    triplets = build_triplets(prompts, read_samples(context, samples_folder(iteration), prompts), initial)
    context.store.write_jsonl(phase.target, [to_row(triplet) for triplet in triplets])


def samples_folder(iteration: int) -> str:
    """Return the folder of an iteration's samples, relative to the run; those of iteration 0 are y0."""
    return f"{iteration_folder(iteration)}/{samples_name(iteration)}"


def read_samples(context: Context, folder: str, prompts: Sequence[Prompt]) -> list[Response]:
    """Read the samples of a finished generation phase, in the order of the prompts."""
    responses = {}
    for file in sorted((context.run.path / folder).glob("shard-*.jsonl")):
        for row in context.store.read_jsonl(f"{folder}/{file.name}"):
            identity = row.pop("id")
            responses[identity] = response_from_row(row)
    return [responses[prompt.id] for prompt in prompts]


def shards(prompts: Sequence[Prompt], section: GenerationSection) -> list[list[Prompt]]:
    """Split the prompts into shards of bounded size, longest first, so that neighbours need little padding."""
    parts: list[list[Prompt]] = [[]]
    room = section.shard_tokens
    for prompt in sorted(prompts, key=lambda prompt: -len(prompt.tokens)):
        needed = len(prompt.tokens) + section.max_tokens
        if parts[-1] and needed > room:
            parts.append([])
            room = section.shard_tokens
        parts[-1].append(prompt)
        room -= needed
    return parts


def _intact_shards(context: Context, folder: str) -> set[str]:
    """List the shards completed by an earlier start of the run; damaged ones are removed and sampled again."""
    kept = set()
    for path in sorted((context.run.path / folder).glob("shard-*.jsonl")):
        file = f"{folder}/{path.name}"
        if context.store.damaged(file):
            context.warn(f"{file} is damaged: its answers are sampled again")
            context.store.remove(file)
        else:
            kept.add(file)
    return kept


def sample_measures(prompts: Sequence[Prompt], responses: Sequence[Response]) -> dict[str, float]:
    """Compute the shares of responses that stopped, were cut off, and equal the expert's; and the mean length."""
    count = len(responses)
    stopped = sum(response.finish_reason == "stop" for response in responses)
    identical = sum(
        response.tokens == prompt.annotated.tokens for prompt, response in zip(prompts, responses, strict=True)
    )
    return {
        "generate/stop_rate": stopped / count,
        "generate/truncated": 1 - stopped / count,
        "generate/identical": identical / count,
        "generate/length": sum(len(response.tokens) for response in responses) / count,
    }
