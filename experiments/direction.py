"""How much of the contrast has a direction, and how much is noise.

``python -m experiments.direction RUN --iteration 0`` samples several answers to each prompt from the policy at
the start of an iteration, one set after the other, and takes the gradient of lowering each set: under the policy that
gave it (fresh), and under the policy that the iteration ended with (aged). What the sets have in common is direction,
the rest is noise: the mean inner product of two different sets estimates the squared length of the direction without
bias, however few there are. Both are told in units of the gradient that raises the expert's answers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map
from rich.console import Console
from rich.table import Table

from tspin_mlx.base.seeds import derive
from tspin_mlx.generation.batch import Decoding, generate
from tspin_mlx.method.triplets import Prompt, Response
from tspin_mlx.models.adapters import fused
from tspin_mlx.models.load import Policy
from tspin_mlx.models.of_run import load_run, use_policy
from tspin_mlx.recipe.policy_names import policy_before, policy_name
from tspin_mlx.runs.run import Run, find_run
from tspin_mlx.scoring.logprobs import as_arrays, score

from .attribution import sigmoid

_AT_ONCE = 8  # responses


def parts(gradients: np.ndarray, unit: np.ndarray) -> dict[str, float]:
    """Direction and noise of sets of samples.

    Args:
        gradients: (sets, parameters), two sets or more.
        unit: (parameters,), the gradient that raises the expert's answers.

    Returns:
        In units of ``unit``'s length: ``direction``, the length of what the sets have in common (0 where the estimate
        of its square is below 0); ``squared``, that estimate, and ``squared_error``, its standard error by leaving out
        each set in turn; ``along``, the component along ``unit``, and ``along_error``; ``noise``, the length of one
        set's deviation.
    """
    gradients, length = gradients.astype(np.float64), float(np.linalg.norm(unit))
    products = gradients @ gradients.T / length**2
    count = len(products)

    def squared(kept: Sequence[int]) -> float:
        chosen = products[np.ix_(kept, kept)]
        return float((chosen.sum() - np.trace(chosen)) / (len(kept) * (len(kept) - 1)))

    everything = range(count)
    whole = squared(everything)
    left_out = [squared([i for i in everything if i != j]) for j in everything] if count > 2 else [0.0]
    along = gradients @ unit.astype(np.float64) / length**2
    return {
        "direction": max(whole, 0.0) ** 0.5,
        "squared": whole,
        "squared_error": float(np.std(left_out) * (count - 1) ** 0.5),
        "along": float(along.mean()),
        "along_error": float(along.std(ddof=1) / count**0.5),
        "noise": max(float(np.trace(products)) / count - whole, 0.0) ** 0.5,
    }


def measure(run: Run, iteration: int, prompts: int, sets: int) -> dict[str, Any]:
    """:func:`parts` of the sets of samples, by policy (``fresh``, ``aged``) and by how triplets are weighed: ``even``,
    or as the loss does at the run's alpha."""
    recipe = run.plan().recipe
    policy = load_run(run, recipe)
    start = policy_name(policy_before(iteration))
    chosen = run.prompts().train[:prompts]
    use_policy(policy, run, start)
    seed = derive(recipe.run.seed, "direction")
    samples = [_sampled(policy, chosen, recipe.generation.max_tokens, derive(seed, number)) for number in range(sets)]
    annotated, even = [prompt.annotated for prompt in chosen], [1.0] * len(chosen)
    found = {}
    for age, name in (("fresh", start), ("aged", iteration)):
        use_policy(policy, run, name)
        unit = gradient_of(policy, chosen, annotated, even)
        weights = {
            "even": [even] * sets,
            "weighed": [_weights(policy, chosen, responses, recipe.objective.alpha) for responses in samples],
        }
        found[age] = {
            how: parts(np.array([-gradient_of(policy, chosen, *one) for one in zip(samples, each, strict=True)]), unit)
            for how, each in weights.items()
        }
    return {
        "run": run.name, "iteration": iteration, "prompts": len(chosen), "sets": sets,
        "alpha": recipe.objective.alpha, "parts": found,
    }  # fmt: skip


def _sampled(policy: Policy, prompts: Sequence[Prompt], max_tokens: int, seed: int) -> list[Response]:
    """One answer to each prompt at temperature 1, from the policy itself."""
    decoding = Decoding(temperature=1, top_p=1, max_tokens=max_tokens, batch_size=len(prompts))
    return generate(policy, prompts, [derive(seed, prompt.id) for prompt in prompts], decoding)


def _weights(policy: Policy, prompts: Sequence[Prompt], responses: Sequence[Response], alpha: float) -> list[float]:
    """Of each triplet in the loss's gradient; twice, so that it is 1 where y and y' are equally likely."""
    with fused(policy):
        logps = score(policy.scorer, [(x, (x.annotated, own)) for x, own in zip(prompts, responses, strict=True)])
    return [2 * sigmoid(-alpha * u) for u in (logps[0] - logps[1]).tolist()]


def gradient_of(
    policy: Policy, prompts: Sequence[Prompt], responses: Sequence[Response], weights: list[float]
) -> np.ndarray:
    """The mean over the prompts of the gradient of a response's log-probability, (parameters,) float32."""
    scorer, total = policy.scorer, None

    def weighed(batch: dict[str, Any], weights: mx.array) -> mx.array:
        return (scorer(batch, "logps")[0][0] * weights).sum() / len(prompts)

    ascent = nn.value_and_grad(policy.model, weighed)
    examples = [(prompt, (response,)) for prompt, response in zip(prompts, responses, strict=True)]
    for begin in range(0, len(examples), _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        _, found = ascent(as_arrays(scorer.collate(examples[some])), mx.array(weights[some]))
        total = found if total is None else tree_map(mx.add, total, found)
        mx.eval(total)
    leaves: list[tuple[str, mx.array]] = tree_flatten(total)
    return np.concatenate([np.array(leaf).ravel() for _, leaf in leaves])


def show(found: dict[str, Any]) -> None:
    """As a table."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("policy", "weights", "direction", "its square", "along y", "noise of one set"):
        table.add_column(heading, justify="left" if heading in ("policy", "weights") else "right")
    for age, rows in found["parts"].items():
        for weights, row in rows.items():
            squared, along = (f"{row[name]:+.3f} ± {row[name + '_error']:.3f}" for name in ("squared", "along"))
            table.add_row(age, weights, f"{row['direction']:.3f}", squared, along, f"{row['noise']:.3f}")
    Console(width=120).print(table)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m experiments.direction", description=__doc__)
    parser.add_argument("run", help="name or folder")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="of the runs")
    parser.add_argument("--iteration", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--sets", type=int, default=16, help="answers to each prompt")
    parser.add_argument("--json", type=Path, help="write what was found here, too")
    options = parser.parse_args()
    found = measure(find_run(options.run, options.folder), options.iteration, options.prompts, options.sets)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
