"""What a run has come to: read once, in words, for whoever shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..recipe.policy_names import BASE, INITIAL, policy_label, policy_name
from .run import MEASURED, Run


@dataclass(frozen=True)
class Answers:
    """The answers to a held-out prompt: the expert's, that of the first policy, and that of the best one."""

    prompt: str
    expert: str
    before: str
    after: str


@dataclass(frozen=True)
class RunResult:
    """What a run has come to.

    Attributes:
        tables: held-out measures, by the examples they were taken on and the policy's label.
        warnings: what to know before trusting them.
        best: the label of the chosen policy; like all that follows, only of a run that has chosen one.
        verdict: which policy was chosen, by what.
        improved: whether it is another than the model as it came.
        answers: to the first held-out prompts.
    """

    tables: dict[str, dict[str, dict[str, float]]]
    warnings: Sequence[str]
    best: str | None = None
    verdict: str = ""
    improved: bool = False
    answers: Sequence[Answers] = ()


def result_of(run: Run, samples: int | None = None) -> RunResult:
    """Read what a run has come to.

    Args:
        samples: answers to how many prompts; None is what the run's recipe says.
    """
    counts, warm = run.outline.counts, run.outline.warm
    measured, tested, result = run.evaluations(), run.test(), run.result()
    splits = {"validation": measured, "test": tested} if tested else {"validation": measured}
    tables = {
        f"{split.capitalize()} ({counts[split]} examples)": {
            policy_label(folder, warm): content["metrics"] for folder, content in contents.items()
        }
        for split, contents in splits.items()
    }
    warnings = [
        f"After a failure ({made.reason}) it computed {made.sizes.micro_batch_size} triplets and "
        f"{made.sizes.generation_batch_size} answers at once, and recomputed layers where the model can."
        for made in run.decisions()
        if made.reason != MEASURED
    ]
    warnings += [
        f"{policy_name(folder).capitalize()} shows signs of collapse: {sign}."
        for folder, content in measured.items()
        for sign in content["signs_of_collapse"]
    ]
    if not result:
        return RunResult(tables, warnings)
    best = result["best"]
    verdict = f"Best by {result['metric']} on the validation examples: {policy_name(best)}."
    if best == INITIAL:
        verdict += " Self-play did not improve on where it started."
    if best == BASE:
        verdict += " Training did not improve on the model as it was."
    prompts = run.prompts().test if tested else run.prompts().validation
    kept = tested or measured
    texts = [[row["text"] for row in kept[it]["responses"]] for it in (BASE if BASE in kept else INITIAL, best)]
    shown = prompts[: run.outline.samples_shown if samples is None else samples]
    answers = [
        Answers(prompt.text, prompt.annotated.text, before, after)
        for prompt, before, after in zip(shown, *texts, strict=False)
    ]
    return RunResult(tables, warnings, policy_label(best, warm), verdict, best != (BASE if warm else INITIAL), answers)
