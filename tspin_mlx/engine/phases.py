"""What is done in each kind of phase: keep, warm up, generate, pair, refer, train or supervise, evaluate, choose, test
and, of the chosen policy, test_best."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base.progress import in_halves
from ..base.seeds import derive
from ..evaluation.guard import Health, nothing_left, saturated, signs_of_collapse
from ..evaluation.measure import answer_greedily, measure
from ..generation.batch import Decoding, generate
from ..method.triplets import (
    REFERENCE,
    SCORES,
    TRIPLETS,
    Prompt,
    Response,
    Score,
    Triplet,
    build_triplets,
    response_from_row,
    samples_name,
    to_row,
    triplet_from_row,
)
from ..models.adapters import fused
from ..recipe.plan import Phase, PhaseKind
from ..recipe.policy_names import BEST, INITIAL, iteration_folder, policy_before
from ..recipe.schema import GenerationSection
from ..runs.policies import best_so_far
from ..scoring.collate import Example
from ..scoring.logprobs import score
from ..training.checkpoints import Checkpoints
from ..training.trainer import Trainer
from .context import Context

_BETWEEN = 20  # times as long as saving a checkpoint takes, at least, until the next one


def _keep(context: Context, phase: Phase) -> None:
    """Save the untouched adapter, under which the model answers as it always did."""
    context.save(Path(phase.target).parent.as_posix())


def _warm_up(context: Context, phase: Phase) -> None:
    """Supervised training before self-play."""
    _supervise_on(context, phase, context.prompts.train[: context.plan.recipe.warmup.prompts])


def _supervise(context: Context, phase: Phase) -> None:
    """An iteration of supervised training, on the prompts that self-play would use."""
    assert phase.iteration is not None
    _supervise_on(context, phase, context.self_play_prompts(phase.iteration))


def _supervise_on(context: Context, phase: Phase, prompts: Sequence[Prompt]) -> None:
    _optimise(context, phase, [(prompt, (prompt.annotated,)) for prompt in prompts])
    _finish_training(context, phase)


def _generate(context: Context, phase: Phase) -> None:
    """One response per self-play prompt, in shards; a stopped run keeps the shards that are complete."""
    assert phase.iteration is not None
    prompts, store = context.self_play_prompts(phase.iteration), context.store
    folder = Path(phase.target)
    aside = folder.with_name(f".{folder.name}.partial").as_posix()
    section = context.plan.recipe.generation
    decoding = Decoding(section.temperature, section.top_p, section.max_tokens, section.batch_size)
    report = context.progress(phase, len(prompts))
    started, made = time.perf_counter(), 0
    kept = _intact_shards(context, aside)
    parts = {f"{aside}/shard-{i:04}.jsonl": part for i, part in enumerate(shards(prompts, section))}
    finished = sum(len(part) for file, part in parts.items() if file in kept)
    if finished:
        context.emit("resumed", phase=phase.target, done=finished, total=len(prompts))
    for file, chosen in parts.items():
        if file in kept:
            continue
        seeds = [derive(phase.seed, prompt.id) for prompt in chosen]

        def on_progress(done: int, tokens: int, seconds: float, before: int = finished) -> None:
            report(before + done, tokens, seconds)

        responses = generate(context.policy, chosen, seeds, decoding, on_progress)
        finished += len(chosen)
        made += sum(len(response.tokens) for response in responses)
        store.write_jsonl(file, [{"id": x.id, **to_row(r)} for x, r in zip(chosen, responses, strict=True)])
    elapsed = time.perf_counter() - started
    store.commit_folder(aside, phase.target)
    measures = _generation_measures(prompts, _sampled(context, phase.target, prompts))
    context.emit(
        "generated",
        phase=phase.target,
        iteration=phase.iteration,
        **measures,
        **{"generate/tokens_per_s": made / elapsed},
    )
    if phase.target == _samples_folder(phase.iteration):
        _warn(context, nothing_left(measures["generate/identical"], len(prompts)))


def shards(prompts: Sequence[Prompt], section: GenerationSection) -> list[list[Prompt]]:
    """The prompts in parts of bounded size, the longest first: neighbours need little padding."""
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
    """Shards that an earlier start of the run completed; damaged ones are removed, to be sampled again."""
    kept = set()
    for path in sorted((context.run.path / folder).glob("shard-*.jsonl")):
        file = f"{folder}/{path.name}"
        if context.store.damaged(file):
            context.emit("warning", message=f"{file} is damaged: its answers are sampled again")
            context.store.remove(file)
        else:
            kept.add(file)
    return kept


def _pair(context: Context, phase: Phase) -> None:
    """Put x, y, y' and y0 together; y0 is left out where the historical term is off."""
    assert phase.iteration is not None
    recipe, iteration = context.plan.recipe, phase.iteration
    historical = bool(recipe.objective.historical_weight(iteration))
    triplets = _built(context, iteration, historical)
    if recipe.generation.mix_previous and iteration:
        before = _built(context, iteration - 1, historical)
        triplets += [replace(t, prompt=replace(t.prompt, id=f"{t.prompt.id} (before)")) for t in before]
    context.store.write_jsonl(phase.target, [to_row(triplet) for triplet in triplets])


def _built(context: Context, iteration: int, historical: bool) -> list[Triplet]:
    """The triplets of an iteration's prompts and responses, with y0 if ``historical``."""
    prompts = context.self_play_prompts(iteration)
    first = iteration if context.plan.recipe.generation.fresh_prompts else 0
    initial = _sampled(context, f"{iteration_folder(first)}/proto_synthetic", prompts) if historical else None
    return build_triplets(prompts, _sampled(context, _samples_folder(iteration), prompts), initial)


def _refer(context: Context, phase: Phase) -> None:
    """Score this iteration's triplets with the policy at its start."""
    examples = _triplets(context, phase)
    report = context.progress(phase, len(examples))
    scorer = context.policy.scorer
    with fused(context.policy):
        logps = score(scorer, examples, report)
    rows = [{"id": prompt.id, "logps": found.tolist()} for (prompt, _), found in zip(examples, logps.T, strict=True)]
    context.store.write_jsonl(phase.target, rows)


def _train(context: Context, phase: Phase) -> None:
    """Train the adapter on this iteration's triplets."""
    assert phase.objective is not None
    examples, beside = _triplets(context, phase), Path(phase.target)
    reference = {}
    if phase.objective.reference:
        rows = context.store.read_jsonl(beside.with_name(REFERENCE).as_posix())
        reference = {row["id"]: row["logps"] for row in rows}
    logps = _optimise(context, phase, examples, reference)
    scores = [Score(prompt.id, *logps[prompt.id]) for prompt, _ in examples]
    context.store.write_jsonl(beside.with_name(SCORES).as_posix(), [to_row(score) for score in scores])
    _finish_training(context, phase)


def _triplets(context: Context, phase: Phase) -> list[Example]:
    """The iteration's triplets, as they are scored."""
    assert phase.objective is not None
    rows = context.store.read_jsonl(Path(phase.target).with_name(TRIPLETS).as_posix())
    triplets = map(triplet_from_row, rows)
    return [(triplet.prompt, triplet.responses(phase.objective.contrast_tokens)) for triplet in triplets]


def _evaluate(context: Context, phase: Phase) -> None:
    """Measure the policy on the validation examples, and say so when it shows signs of collapse."""
    measures, logps, responses = _measured(context, phase, context.prompts.validation)
    signs: list[str] = []
    if phase.iteration is not None:
        initial = context.store.read_json(f"{INITIAL}/eval.json")["metrics"]
        signs = signs_of_collapse(
            _health(context, initial, 0), _health(context, measures, phase.iteration), context.plan.recipe.guard
        )
    content = {
        "metrics": measures,
        "signs_of_collapse": signs,
        "logps": logps,
        "responses": [to_row(response) for response in responses],
    }
    context.store.write_json(phase.target, content)
    context.emit("evaluated", policy=phase.policy, **{f"eval/{name}": value for name, value in measures.items()})
    _best_so_far(context)
    for sign in signs:
        context.emit("warning", message=f"iteration {phase.iteration} shows signs of collapse: {sign}")


def _health(context: Context, measures: dict[str, float], iteration: int) -> Health:
    """What the guard watches of a policy; the samples are those that the iteration was trained on, if any."""
    if context.plan.recipe.objective.kind == "sft":
        return Health(stop_rate=measures["stop_rate"], nll=measures["nll"])
    samples = _sampled(context, _samples_folder(iteration), context.self_play_prompts(iteration))
    cut = sum(response.finish_reason != "stop" for response in samples) / len(samples)
    return Health(stop_rate=measures["stop_rate"], nll=measures["nll"], truncated=cut)


def _choose(context: Context, phase: Phase) -> None:
    """Name the best policy."""
    result = _best_so_far(context)
    context.store.write_json(phase.target, result)
    context.emit("chosen", policy=result["best"], metric=result["metric"], value=result["value"])


def _warn(context: Context, message: str | None) -> None:
    if message is not None:
        context.emit("warning", message=message)


def _best_so_far(context: Context) -> dict[str, Any]:
    """Let ``best`` lead to the best adapter by the recipe's held-out measure."""
    result = best_so_far(context.run)
    context.store.point(BEST, f"{result['best']}/adapter")
    return result


def _test(context: Context, phase: Phase) -> None:
    """Measure one policy on the test examples, once."""
    context.store.write_json(phase.target, _tested(context, phase))


def _test_best(context: Context, phase: Phase) -> None:
    """Measure the chosen policy on the test examples, once."""
    best = context.store.read_json("result.json")["best"]
    known = f"{best}/test.json"
    if context.store.has(known):
        content = context.store.read_json(known)
    else:
        context.use(best)
        content = _tested(context, phase)
    context.store.write_json(phase.target, {"policy": best, **content})


def _tested(context: Context, phase: Phase) -> dict[str, Any]:
    measures, _, responses = _measured(context, phase, context.prompts.test)
    return {"metrics": measures, "responses": [to_row(response) for response in responses]}


def _optimise(
    context: Context, phase: Phase, examples: Sequence[Example], reference: Mapping[str, Sequence[float]] | None = None
) -> dict[str, list[float]]:
    """All steps of a phase that are not in a checkpoint; :attr:`Trainer.first_logps`."""
    assert phase.updates is not None and phase.objective is not None
    steps, pause = phase.updates.steps, context.plan.recipe.run.checkpoint_seconds
    checkpoints = Checkpoints(context.store, phase.target, context.emit)
    trainer = Trainer(context.policy, phase.objective, phase.updates, phase.seed, context.gradients, reference)
    if done := checkpoints.restore(trainer):
        context.emit("resumed", phase=phase.target, done=done, total=steps)
    due = time.monotonic() + pause

    def on_step(step: int, metrics: dict[str, float]) -> None:
        nonlocal due
        context.emit("step", phase=phase.target, iteration=phase.iteration, step=step, steps=steps, **metrics)
        if step == 1 and phase.iteration == 0:
            _warn(context, saturated(trainer.objective, metrics))
        if step < steps and ((begun := time.monotonic()) >= due or context.stop.now):
            checkpoints.save(trainer, step)
            context.stop.check()
            now = time.monotonic()
            due = now + (max(pause, _BETWEEN * (now - begun)) if pause else 0)

    trainer.run(examples, on_step, done)
    return trainer.first_logps


def _finish_training(context: Context, phase: Phase) -> None:
    """Save the adapter, upon which the phase is done."""
    context.save(Path(phase.target).parent.as_posix())
    Checkpoints(context.store, phase.target, context.emit).clear()


def _measured(
    context: Context, phase: Phase, prompts: Sequence[Prompt]
) -> tuple[dict[str, float], dict[str, list[float]], list[Response]]:
    """Answer greedily and measure; within self-play also against the policies before."""
    recipe = context.plan.recipe
    on_answered, on_scored = in_halves(context.progress(phase, len(prompts)), len(prompts))
    own = answer_greedily(context.policy, prompts, recipe.answer_tokens, recipe.generation.batch_size, on_answered)
    opponent = initial = None
    if phase.target == f"{INITIAL}/eval.json":
        opponent = own
    elif phase.iteration is not None:
        opponent, initial = context.responses(policy_before(phase.iteration)), context.responses(INITIAL)
    return *measure(context.policy, prompts, own, opponent, initial, recipe.evaluation, on_scored), own


def _samples_folder(iteration: int) -> str:
    return f"{iteration_folder(iteration)}/{samples_name(iteration)}"


def _sampled(context: Context, folder: str, prompts: Sequence[Prompt]) -> list[Response]:
    """The sampled responses of a finished generation, in the order of the prompts."""
    found = {}
    for file in sorted((context.run.path / folder).glob("shard-*.jsonl")):
        for row in context.store.read_jsonl(f"{folder}/{file.name}"):
            prompt = row.pop("id")
            found[prompt] = response_from_row(row)
    return [found[prompt.id] for prompt in prompts]


def _generation_measures(prompts: Sequence[Prompt], responses: Sequence[Response]) -> dict[str, float]:
    """Shares of responses that ended by themselves, were cut, and say what the expert says; mean length."""
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


#: The function of each kind of phase.
WORK: dict[PhaseKind, Callable[[Context, Phase], None]] = {
    "keep": _keep,
    "evaluate": _evaluate,
    "warmup": _warm_up,
    "generate": _generate,
    "pair": _pair,
    "refer": _refer,
    "train": _train,
    "supervise": _supervise,
    "choose": _choose,
    "test": _test,
    "test_best": _test_best,
}
