"""The phases that evaluate: validation after each iteration, the choice of the best policy, and the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..base.progress import in_halves
from ..evaluation.guard import Health, signs_of_collapse
from ..evaluation.measure import answer_greedily, measure
from ..method.triplets import Prompt, Response, to_row
from ..recipe.phase import Phase
from ..recipe.policy_names import BEST, INITIAL, policy_before
from ..runs.policies import best_policy
from .context import Context
from .sample_phases import read_samples, samples_folder


def evaluate(context: Context, phase: Phase) -> None:
    """Measure the policy on the validation examples, and warn if it shows signs of collapse."""
    measures, logps, responses = _measured(context, phase, context.prompts.validation)
    signs: list[str] = []
    guard = context.plan.recipe.guard
    if phase.iteration is not None:
        initial = _health(context, context.measures[INITIAL], 0)
        signs = signs_of_collapse(initial, _health(context, measures, phase.iteration), guard)
    content = {
        "metrics": measures,
        "signs_of_collapse": signs,
        "logps": logps,
        "responses": [to_row(response) for response in responses],
    }
    context.store.write_json(phase.target, content)
    context.emit("evaluated", policy=phase.policy, **{f"eval/{name}": value for name, value in measures.items()})
    context.measures[phase.policy] = measures
    _point_to_best(context)
    for sign in signs:
        context.warn(f"iteration {phase.iteration} shows signs of collapse: {sign}")
    if signs and guard.stop:
        context.last_iteration = phase.iteration


def choose(context: Context, phase: Phase) -> None:
    """Choose the best policy and store the choice."""
    result = _point_to_best(context)
    context.store.write_json(phase.target, result)
    context.emit("chosen", policy=result["best"], metric=result["metric"], value=result["value"])


def test(context: Context, phase: Phase) -> None:
    """Measure one policy on the test examples, once."""
    context.store.write_json(phase.target, _tested(context, phase))


def test_best(context: Context, phase: Phase) -> None:
    """Measure the chosen policy on the test examples, once."""
    best = context.store.read_json("result.json")["best"]
    known = f"{best}/test.json"
    if context.store.has(known):
        content = context.store.read_json(known)
    else:
        context.use(best)
        content = _tested(context, phase)
    context.store.write_json(phase.target, {"policy": best, **content})


def _health(context: Context, measures: Mapping[str, float], iteration: int) -> Health:
    """Collect the guard's measures of a policy; the samples are those that the iteration was trained on, if any."""
    if context.plan.recipe.objective.kind == "sft":
        return Health(stop_rate=measures["stop_rate"], nll=measures["nll"])
    samples = read_samples(context, samples_folder(iteration), context.self_play_prompts)
    cut = sum(response.finish_reason != "stop" for response in samples) / len(samples)
    return Health(stop_rate=measures["stop_rate"], nll=measures["nll"], truncated=cut)


def _point_to_best(context: Context) -> dict[str, Any]:
    """Point the link ``best`` to the best adapter by the recipe's held-out measure."""
    measures = {policy: context.measures[policy] for policy in context.run.evaluated()}
    result = best_policy(context.plan.recipe.evaluation.best, measures)
    context.store.point(BEST, f"{result['best']}/adapter")
    return result


def _tested(context: Context, phase: Phase) -> dict[str, Any]:
    measures, _, responses = _measured(context, phase, context.prompts.test)
    return {"metrics": measures, "responses": [to_row(response) for response in responses]}


def _measured(
    context: Context, phase: Phase, prompts: Sequence[Prompt]
) -> tuple[dict[str, float], dict[str, list[float]], list[Response]]:
    """Generate greedy answers and measure them; in self-play also against earlier policies."""
    recipe = context.plan.recipe
    on_answered, on_scored = in_halves(context.progress(phase, len(prompts)), len(prompts))
    own = answer_greedily(context.policy, prompts, recipe.answer_tokens, recipe.generation.batch_size, on_answered)
    opponent = initial = None
    if phase.target == f"{INITIAL}/eval.json":
        opponent = own
    elif phase.iteration is not None:
        opponent, initial = context.responses(policy_before(phase.iteration)), context.responses(INITIAL)
    return *measure(context.policy, prompts, own, opponent, initial, recipe.evaluation, on_scored), own
