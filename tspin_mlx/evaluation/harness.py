"""Evaluate a policy on benchmarks with EleutherAI's lm-evaluation-harness, through mlx-lm's model class for it.

Needs the package ``lm-eval`` (extra ``eval``), which works without torch. One of the few modules that import mlx-lm.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base.errors import HubError, SetupError, UsageError
from ..base.text import first_line, suggest
from ..data.tokenize import BadExample, prompt_text
from ..generation.batch import Decoding, generate
from ..method.triplets import Prompt, Response
from ..models.load import Policy

#: Longest answer in tokens if a task does not set one; the harness's own default.
DEFAULT_MAX_TOKENS = 256

#: Results by task, then by measure, such as ``exact_match,strict-match``; each has a ``_stderr`` too.
Results = dict[str, dict[str, float]]


def run_harness(
    policy: Policy,
    tasks: Sequence[str],
    *,
    template: str,
    batch_size: int,
    folder: Path | None = None,
    system: str | None = None,
    limit: int | None = None,
    max_tokens: int | None = None,
) -> Results:
    """Evaluate a policy on tasks of the harness. Answers are greedy; prompts use the training template, and are cut at
    the beginning if prompt and answer would exceed the model's context length.

    Args:
        tasks: names of tasks.
        template: ``data.template`` of the recipe.
        batch_size: answers generated at once.
        folder: YAML files of more tasks. They may name Python files next to them, which the harness then runs.
        system: system prompt for tasks without one.
        limit: use only the first ``limit`` examples of each task.
        max_tokens: longest answer; None uses the task's.

    Raises:
        SetupError: the package is not installed.
        UsageError: no such task, or the template does not fit it.
        HubError: a task's dataset is not on this machine and could not be downloaded.
    """
    lm_eval = require_harness()
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder) if folder else None)
    for name in tasks:
        if not manager.match_tasks([name]):
            hint = suggest(name, manager.all_tasks, "`lm_eval ls tasks` lists those of the harness")
            raise UsageError(f"the harness has no task {name!r}", hint=hint)
    model = _adapter(policy, template, batch_size, max_tokens)
    try:
        evaluation = lm_eval.simple_evaluate(
            model,
            tasks=list(tasks),
            task_manager=manager,
            limit=limit,
            system_instruction=system,
            apply_chat_template=True,
            fewshot_as_multiturn=False,
            log_samples=False,
            bootstrap_iters=1000,
        )
    except BadExample as error:
        raise UsageError(f"data.template does not fit the task: {error}") from None
    except (OSError, ValueError) as error:
        if "hub" not in str(error).lower() and not isinstance(error, ConnectionError):
            raise
        raise HubError(
            f"the data of {', '.join(tasks)} could not be downloaded: {first_line(error)}",
            hint="connect to the network once, or use a local task with --tasks-folder",
        ) from None
    return {task: _numbers(measures) for task, measures in evaluation["results"].items()}


def require_harness() -> Any:
    """Import the package ``lm_eval``.

    Raises:
        SetupError: it is not installed.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # read on import
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import lm_eval
    except ImportError:
        raise SetupError(
            "--harness needs the lm-evaluation-harness", hint='pip install "tspin-mlx[eval]" (without torch)'
        ) from None
    return lm_eval


def _numbers(measures: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in measures.items() if isinstance(value, int | float)}


def _adapter(policy: Policy, template: str, batch_size: int, max_tokens: int | None) -> Any:
    """Wrap the policy in mlx-lm's model class for the harness."""
    from lm_eval.api.model import LM
    from mlx_lm.evaluate import MLXLM

    class PolicyLM(MLXLM):
        """mlx-lm's likelihoods, with this package's templates and generation."""

        def __init__(self) -> None:
            LM.__init__(self)  # not MLXLM's, which loads a model
            self._model, self.tokenizer = policy.model, policy.tokenizer
            self._max_tokens, self._batch_size = policy.window, batch_size
            self.use_chat_template = template == "chat"

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            if add_generation_prompt:
                return prompt_text(chat_history, self.tokenizer, template)
            return prompt_text(chat_history[:-1], self.tokenizer, template) + chat_history[-1]["content"]

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            groups = defaultdict(list)
            for i, request in enumerate(requests):
                groups[max_tokens or request.args[1].get("max_gen_toks", DEFAULT_MAX_TOKENS)].append(i)
            answers = [""] * len(requests)
            for length, members in groups.items():
                room = -max(1, policy.window - length) if policy.window else None
                contexts = self._tokenize([requests[i].args[0] for i in members])
                prompts = [Prompt(str(i), tokens[room:], "", Response((), ""), "") for i, tokens in
                           zip(members, contexts, strict=True)]  # fmt: skip
                decoding = Decoding(temperature=0, top_p=1, max_tokens=length, batch_size=batch_size)
                for i, answer in zip(members, generate(policy, prompts, [None] * len(prompts), decoding), strict=True):
                    answers[i] = _until(answer.text, requests[i].args[1].get("until", ()))
            return answers

    return PolicyLM()


def _until(text: str, stops: str | Sequence[str]) -> str:
    """Cut ``text`` before the first stop string."""
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop:
            text = text.partition(stop)[0]
    return text
