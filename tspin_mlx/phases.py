"""What is done in each kind of phase: warm up, generate, pair, train, evaluate, choose, test."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .batching import Scored
from .choice import better_is_lower, choose
from .evaluation import answer_greedily, measure
from .events import Emit
from .generation import Decoding, generate
from .models import Policy, save_adapter, set_adapter
from .plan import BASE, INITIAL, Phase, PhaseKind, Plan, iteration_folder
from .runs import store
from .runs.directory import Run
from .scoring import Scorer
from .seeds import derive
from .training import Trainer
from .triplets import Prompt, Response, build_triplets, response_from_row, to_row, triplet_from_row

_PROGRESS_EVERY = 0.25  # seconds


class Desk:
    """What the phases share: the run, the loaded policy, and the examples."""

    def __init__(self, run: Run, plan: Plan, policy: Policy, emit: Emit) -> None:
        self.run, self.plan, self.policy, self.emit = run, plan, policy, emit
        self.prompts = run.prompts()
        self.self_play_prompts = self.prompts.train[: plan.recipe.generation.prompts]
        self._untouched = policy.adapter()
        self._current = BASE
        if not Scorer(policy.model).split:
            emit(
                "warning", message="this model's head is not known: training computes all logits, and needs more memory"
            )

    def use(self, folder: str) -> None:
        """Make the policy the one saved in ``folder``; ``base`` is the untouched adapter."""
        if folder == self._current:
            return
        if folder == BASE:
            self.policy.model.load_weights(list(self._untouched.items()), strict=False)
        else:
            set_adapter(self.policy, self.run.path / folder / "adapter")
        self._current = folder

    def save(self, phase: Phase) -> None:
        """Save the policy's adapter as the phase's result."""
        target = self.run.path / phase.target
        save_adapter(self.policy, target)
        self._current = str(Path(phase.target).parent)

    def progress(self, phase: Phase, total: int) -> Callable[[int, int, float], None]:
        """A reporter of generation, for :func:`tspin_mlx.generation.generate`; a few events a second at most."""
        last = -_PROGRESS_EVERY

        def report(done: int, tokens: int, seconds: float) -> None:
            nonlocal last
            if done < total and time.perf_counter() - last < _PROGRESS_EVERY:
                return
            last = time.perf_counter()
            self.emit("progress", phase=phase.target, done=done, total=total, tokens_per_s=tokens / seconds)

        return report

    def responses(self, folder: str) -> list[Response]:
        """Greedy answers that an evaluation of this run has kept."""
        rows = store.read_json(self.run.path / folder / "eval.json")["responses"]
        return [response_from_row(row) for row in rows]


def _warm_up(desk: Desk, phase: Phase) -> None:
    """Supervised training; with 0 steps the untouched adapter is saved as the initial policy."""
    if phase.updates and phase.updates.steps:
        _optimise(desk, phase, [(prompt, (prompt.annotated,)) for prompt in desk.prompts.train])
    desk.save(phase)


def _generate(desk: Desk, phase: Phase) -> None:
    """One response per training prompt, in shards; a stopped run keeps the shards that are complete."""
    prompts, target = desk.self_play_prompts, desk.run.path / phase.target
    aside = target.with_name(f".{target.name}.partial")
    section = desk.plan.recipe.generation
    decoding = Decoding(section.temperature, section.top_p, section.max_tokens, section.batch_size)
    report = desk.progress(phase, len(prompts))
    started, made = time.perf_counter(), 0
    for start in range(0, len(prompts), section.shard_size):
        file = aside / f"shard-{start // section.shard_size:04}.jsonl"
        if file.exists():
            continue
        chosen = prompts[start : start + section.shard_size]
        seeds = [derive(phase.seed, prompt.id) for prompt in chosen]

        def on_progress(done: int, tokens: int, seconds: float, start: int = start) -> None:
            report(start + done, tokens, seconds)

        responses = generate(desk.policy, chosen, seeds, decoding, on_progress)
        made += sum(len(response.tokens) for response in responses)
        rows = [{"id": x.id, **to_row(r)} for x, r in zip(chosen, responses, strict=True)]
        store.write_jsonl(file, rows)
    elapsed = time.perf_counter() - started
    store.commit_folder(aside, target)
    measures = _generation_measures(prompts, _sampled(desk, phase.target))
    desk.emit(
        "generated",
        phase=phase.target,
        iteration=phase.iteration,
        **measures,
        **{"generate/tokens_per_s": made / elapsed},
    )


def _pair(desk: Desk, phase: Phase) -> None:
    """Put x, y, y' and y0 together; y0 is left out where the historical term is off."""
    initial = _sampled(desk, f"{iteration_folder(0)}/proto_synthetic")
    if not phase.iteration:
        synthetic, proto_synthetic = initial, None
    else:
        synthetic = _sampled(desk, f"{iteration_folder(phase.iteration)}/synthetic")
        proto_synthetic = initial if desk.plan.recipe.objective.beta else None
    triplets = build_triplets(desk.self_play_prompts, synthetic, proto_synthetic)
    store.write_jsonl(desk.run.path / phase.target, [to_row(triplet) for triplet in triplets])


def _train(desk: Desk, phase: Phase) -> None:
    """Train the adapter on this iteration's triplets."""
    rows = store.read_jsonl((desk.run.path / phase.target).with_name("triplets.jsonl"))
    triplets = [triplet_from_row(row) for row in rows]
    _optimise(desk, phase, [(triplet.prompt, triplet.responses) for triplet in triplets])
    desk.save(phase)


def _evaluate(desk: Desk, phase: Phase) -> None:
    """Measure the policy on the validation examples."""
    measures, responses = _measured(desk, phase, desk.prompts.validation)
    content = {"metrics": measures, "responses": [to_row(response) for response in responses]}
    store.write_json(desk.run.path / phase.target, content)
    desk.emit("evaluated", policy=phase.policy, **{f"eval/{name}": value for name, value in measures.items()})


def _choose(desk: Desk, phase: Phase) -> None:
    """Name the best policy by the recipe's held-out measure; the initial policy is a candidate."""
    metric = desk.plan.recipe.evaluation.best
    values = {
        folder: content["metrics"][metric] for folder, content in desk.run.evaluations().items() if folder != BASE
    }
    best = choose(values, lower=better_is_lower(metric))
    store.point(desk.run.path / "best", desk.run.path / best / "adapter")
    result = {"best": best, "metric": metric, "value": values[best], "candidates": values}
    store.write_json(desk.run.path / phase.target, result)
    desk.emit("chosen", policy=best, metric=metric, value=values[best])


def _test(desk: Desk, phase: Phase) -> None:
    """Measure the base model, the initial policy and the chosen one on the test examples, once."""
    best = store.read_json(desk.run.path / "result.json")["best"]
    content: dict[str, Any] = {}
    known = (BASE, INITIAL) if desk.plan.recipe.warmup.epochs else (INITIAL,)
    for folder in dict.fromkeys((*known, best)):
        desk.use(folder)
        measures, responses = _measured(desk, phase, desk.prompts.test)
        content[folder] = {"metrics": measures, "responses": [to_row(response) for response in responses]}
    store.write_json(desk.run.path / phase.target, content)


def _optimise(desk: Desk, phase: Phase, examples: Sequence[Scored]) -> None:
    assert phase.updates is not None and phase.objective is not None
    steps = phase.updates.steps

    def on_step(step: int, metrics: dict[str, float]) -> None:
        desk.emit("step", phase=phase.target, iteration=phase.iteration, step=step, steps=steps, **metrics)

    Trainer(desk.policy, phase.objective, phase.updates, phase.seed).run(examples, on_step)


def _measured(desk: Desk, phase: Phase, prompts: Sequence[Prompt]) -> tuple[dict[str, float], list[Response]]:
    """Answer greedily and measure; within self-play also against the policies before."""
    recipe = desk.plan.recipe
    max_tokens = recipe.evaluation.max_tokens or recipe.generation.max_tokens
    report = desk.progress(phase, len(prompts))
    own = answer_greedily(desk.policy, prompts, max_tokens, recipe.generation.batch_size, report)
    opponent = initial = None
    if phase.target == f"{INITIAL}/eval.json":
        opponent = own
    elif phase.iteration is not None:
        before = INITIAL if phase.iteration == 0 else iteration_folder(phase.iteration - 1)
        opponent, initial = desk.responses(before), desk.responses(INITIAL)
    return measure(desk.policy, prompts, own, opponent, initial, recipe.evaluation), own


def _sampled(desk: Desk, folder: str) -> list[Response]:
    """The sampled responses of a finished generation, in the order of the prompts."""
    found = {}
    for file in sorted((desk.run.path / folder).glob("shard-*.jsonl")):
        for row in store.read_jsonl(file):
            prompt = row.pop("id")
            found[prompt] = response_from_row(row)
    return [found[prompt.id] for prompt in desk.self_play_prompts]


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
WORK: dict[PhaseKind, Callable[[Desk, Phase], None]] = {
    "evaluate": _evaluate,
    "warmup": _warm_up,
    "generate": _generate,
    "pair": _pair,
    "train": _train,
    "choose": _choose,
    "test": _test,
}
