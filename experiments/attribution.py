"""Which term of the objective, at which tokens and in which samples, does what to held-out answers.

``python -m experiments.attribution RUN --iteration 0`` takes the policy at the start of an iteration and its
triplets, splits the gradient of the contrast by where it comes from (and once more by the triplets' advantage), and
follows each part a small step downhill: the change of the log-probability of held-out expert's answers and of the
policy's own held-out answers, by kind of token. The parts add up to the whole, since a small step is linear in the
gradient.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map
from rich.console import Console
from rich.table import Table

from tspin_mlx.method.triplets import Prompt, Response, Triplet, common_prefix, response_from_row
from tspin_mlx.models.adapters import fused
from tspin_mlx.models.load import Policy
from tspin_mlx.models.of_run import load_run, use_policy
from tspin_mlx.recipe.policy_names import policy_before, policy_name
from tspin_mlx.runs.run import Run, find_run
from tspin_mlx.runs.samples import read_triplets
from tspin_mlx.scoring.head import token_logps
from tspin_mlx.scoring.logprobs import score

Kind = Literal["structure", "content", "end"]
KINDS: tuple[Kind, ...] = ("structure", "content", "end")

#: Euclidean length of the step by the adapter's weights: small, so that its effect is linear.
_STEP = 0.01


@dataclass(frozen=True)
class Push:
    """Tokens whose log-probabilities a part of the gradient raises or lowers.

    Attributes:
        prompt: token ids.
        response: token ids.
        weights: per response token: above 0 where the descent raises the log-probability, in 1 / triplet.
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    weights: tuple[float, ...]


def pushes(triplets: Sequence[Triplet], logps: np.ndarray, alpha: float, beta: float) -> dict[str, list[Push]]:
    """The descent of the mean T-SPIN loss, by where it comes from.

    Args:
        logps: (k, n), of y, y' and, if there is one, y0.
    """
    found: dict[str, list[Push]] = {}
    count = len(triplets)

    def push(name: str, prompt: Prompt, response: Response, weight: float, chosen: Sequence[bool]) -> None:
        weights = tuple(weight / count if one else 0.0 for one in chosen)
        if any(weights):
            found.setdefault(name, []).append(Push(prompt.tokens, response.tokens, weights))

    for i, triplet in enumerate(triplets):
        x, y, own, initial = triplet.prompt, triplet.prompt.annotated, triplet.synthetic, triplet.proto_synthetic
        current = alpha * sigmoid(-alpha * (logps[0, i] - logps[1, i]))
        push("y up", x, y, current, [True] * len(y.tokens))
        for place, chosen in places(own.tokens, y.tokens).items():
            push(f"y' down, {place}", x, own, -current, chosen)
        if initial is not None:
            historical = alpha * beta * sigmoid(-alpha * (logps[1, i] - logps[2, i]))
            push("y' up (historical)", x, own, historical, [True] * len(own.tokens))
            push("y0 down (historical)", x, initial, -historical, [True] * len(initial.tokens))
    return found


def pushes_by_advantage(
    triplets: Sequence[Triplet], logps: np.ndarray, alpha: float, beta: float
) -> dict[str, list[Push]]:
    """The same descent by thirds of three or more triplets: where y' is likely beside y comes first, astray last."""
    thirds = np.array_split(np.argsort(logps[0] - logps[1], kind="stable"), 3)
    found = {}
    for name, chosen in zip(("lowest", "middle", "highest"), thirds, strict=True):
        parts = pushes([triplets[i] for i in chosen], logps[:, chosen], alpha, beta)
        share = len(chosen) / len(triplets)
        found[f"triplets with the {name} u"] = [
            replace(push, weights=tuple(share * weight for weight in push.weights))
            for part in parts.values()
            for push in part
        ]
    return found


def places(response: Sequence[int], annotated: Sequence[int]) -> dict[str, list[bool]]:
    """Which tokens of a response stand before, at and after its first difference with the expert's answer."""
    first, where = common_prefix(response, annotated), range(len(response))
    return {
        "before it differs": [i < first for i in where],
        "where it differs": [i == first for i in where],
        "after": [i > first for i in where],
    }


def kinds(tokens: Sequence[int], texts: Sequence[str], end: int) -> list[Kind]:
    """What each token is: punctuation and brackets only, words and numbers, or the end of the answer."""
    return [
        "end" if token == end else "content" if any(c.isalnum() for c in text) else "structure"
        for token, text in zip(tokens, texts, strict=True)
    ]


def sigmoid(z: float) -> float:
    """``1 / (1 + exp(-z))`` without overflow for any z."""
    return float(1 / (1 + np.exp(-z))) if z >= 0 else float(np.exp(z) / (1 + np.exp(z)))


def gradient(policy: Policy, parts: Sequence[Push]) -> Any:
    """The direction in which a part of the descent goes, by the adapter's parameters."""

    def raised(prompt: mx.array, response: mx.array, weights: mx.array) -> mx.array:
        return (_logps(policy, prompt, response) * weights).sum()

    ascent, total = nn.value_and_grad(policy.model, raised), None
    for part in parts:
        _, found = ascent(mx.array(part.prompt), mx.array(part.response), mx.array(part.weights))
        total = found if total is None else tree_map(mx.add, total, found)
        mx.eval(total)
    return total


def _logps(policy: Policy, prompt: mx.array, response: mx.array) -> mx.array:
    """Per response token, (n,) float32."""
    tokens = mx.concatenate([prompt, response[:-1]])
    logits = policy.model(tokens[None])[0, prompt.size - 1 :]
    return token_logps(logits, response)[0]


def token_values(policy: Policy, examples: Sequence[tuple[Prompt, Response]]) -> np.ndarray:
    """Log-probabilities of all tokens of the responses, one after the other."""
    with fused(policy):
        found = [np.array(_logps(policy, mx.array(x.tokens), mx.array(r.tokens))) for x, r in examples]
    return np.concatenate(found)


def effects(policy: Policy, direction: Any, examples: Sequence[tuple[Prompt, Response]], step: float) -> np.ndarray:
    """Change of each token's log-probability per unit of the descent, by central differences."""
    start = dict(tree_flatten(policy.model.trainable_parameters()))
    ways = dict(tree_flatten(direction))
    sides = []
    for sign in (1, -1):
        moved = [(name, value + sign * step * ways[name]) for name, value in start.items()]
        policy.model.load_weights(moved, strict=False)
        sides.append(token_values(policy, examples))
    policy.model.load_weights(list(start.items()), strict=False)
    return (sides[0] - sides[1]) / (2 * step)


def attribute(run: Run, iteration: int, triplets: int, held_out: int) -> dict[str, Any]:
    """The effect of each part of the gradient (``effects``), and of each third of the triplets (``by_advantage``), on a
    token of each kind: means, in units of what raising y does for the expert's held-out tokens."""
    policy = load_run(run, run.plan().recipe)
    start = policy_before(iteration)
    use_policy(policy, run, policy_name(start))
    chosen = read_triplets(run, iteration)[:triplets]
    with fused(policy):
        logps = score(policy.scorer, [(t.prompt, t.responses()) for t in chosen])
    objective = run.plan().recipe.objective
    prompts = run.prompts().validation[:held_out]
    own = [response_from_row(row) for row in run.evaluations()[start]["responses"][: len(prompts)]]
    groups = {"expert": [(x, x.annotated) for x in prompts], "own": list(zip(prompts, own, strict=True))}
    labels = {name: _kinds(policy.tokenizer, examples) for name, examples in groups.items()}
    weights = (objective.alpha, objective.historical_weight(iteration))
    by_place = _followed(policy, pushes(chosen, logps, *weights), groups)
    by_advantage = _followed(policy, pushes_by_advantage(chosen, logps, *weights), groups)
    unit = by_place["y up"]["expert"].mean()

    def means(changes: dict[str, np.ndarray]) -> dict[str, float]:
        return {
            f"{group} {kind}": float(changes[group][labels[group] == kind].mean() / unit)
            for group in groups
            for kind in KINDS
            if (labels[group] == kind).any()
        }

    return {
        "run": run.name, "iteration": iteration, "alpha": objective.alpha, "triplets": len(chosen),
        "held_out": len(prompts), "current_advantage": (logps[0] - logps[1]).tolist(),
        "effects": {name: means(changes) for name, changes in by_place.items()},
        "by_advantage": {name: means(changes) for name, changes in by_advantage.items()},
    }  # fmt: skip


def _followed(
    policy: Policy, parts: dict[str, list[Push]], groups: dict[str, list[tuple[Prompt, Response]]]
) -> dict[str, dict[str, np.ndarray]]:
    """By part of the gradient and group of examples: what a small step along the part changes, see :func:`effects`."""
    found = {}
    for name, part in parts.items():
        direction = gradient(policy, part)
        norm = float(mx.sqrt(sum(g.square().sum() for _, g in tree_flatten(direction))).item())
        found[name] = {group: effects(policy, direction, examples, _STEP / norm) for group, examples in groups.items()}
    return found


def _kinds(tokenizer: Any, examples: Sequence[tuple[Prompt, Response]]) -> np.ndarray:
    tokens = [token for _, response in examples for token in response.tokens]
    return np.array(kinds(tokens, [tokenizer.decode([token]) for token in tokens], tokenizer.eos_token_id))


def merged(effects: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """What y and y' begin with is raised in the one and lowered in the other, by the same tokens after the same
    prompt: only the sum of the two says anything."""
    others = dict(effects)
    raised, begun = others.pop("y up"), others.pop("y' down, before it differs", None)
    if begun is None:
        return effects
    return {"y up, from the first difference on": {key: raised[key] + begun[key] for key in raised}, **others}


def show(found: dict[str, Any]) -> None:
    """As two tables, with the sum of all parts below."""
    for rows in (merged(found["effects"]), found["by_advantage"]):
        table = Table(box=None, pad_edge=False, header_style="dim")
        columns = list(next(iter(rows.values())))
        for heading in ("part of the gradient", *columns):
            table.add_column(heading, justify="left" if heading == "part of the gradient" else "right")
        whole = {column: sum(row[column] for row in rows.values()) for column in columns}
        for name, row in {**rows, "all": whole}.items():
            table.add_row(name, *(f"{row[column]:+.2f}" for column in columns))
        Console(width=120).print(table)


def main() -> None:
    """Parse the command line, attribute, print."""
    parser = argparse.ArgumentParser(prog="python -m experiments.attribution", description=__doc__)
    parser.add_argument("run", help="name or folder")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="of the runs")
    parser.add_argument("--iteration", type=int, default=0)
    parser.add_argument("--triplets", type=int, default=64)
    parser.add_argument("--held-out", type=int, default=32)
    parser.add_argument("--json", type=Path, help="write what was found here, too")
    options = parser.parse_args()
    found = attribute(find_run(options.run, options.folder), options.iteration, options.triplets, options.held_out)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
