"""The context that the phases of a run share: the run, the loaded policy, the examples, requests to stop."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..base.progress import OnProgress
from ..base.stop import Stop
from ..method.triplets import Prompt, Response, response_from_row
from ..models.adapters import save_adapter, set_adapter
from ..models.load import Policy
from ..recipe.phase import Phase
from ..recipe.plan import Plan
from ..recipe.policy_names import BASE
from ..runs.run import Run
from ..training.trainer import Gradients
from ..view.events import Emit

_PROGRESS_EVERY = 0.25  # seconds


class Context:
    """The run, the loaded policy and its examples.

    Attributes:
        measures: held-out measures of the policies evaluated so far, by the policy's folder.
        last_iteration: the iteration after which self-play ends since it collapsed; None if none has.
    """

    def __init__(self, run: Run, plan: Plan, policy: Policy, emit: Emit, stop: Stop) -> None:
        self.run, self.plan, self.policy, self.emit, self.stop = run, plan, policy, emit, stop
        self.store = run.store
        self.prompts = run.prompts()
        self.measures: dict[str, dict[str, float]] = {
            policy: content["metrics"] for policy, content in run.evaluations().items()
        }
        self.last_iteration = run.last_iteration()
        self._untouched = policy.adapter()
        self._current = BASE
        self.gradients = Gradients(policy)
        if not policy.mlx_lm_agrees:
            emit("warning", message="mlx-lm alone does not find this model's rotary settings: fuse the adapter for it")
        if not policy.scorer.split:
            emit("warning", message="this model's head is not known: training computes all logits, which is slower")
        elif not policy.scorer.shares:
            emit("warning", message="this model's prompts cannot be shared: each is computed once for every response")

    @property
    def self_play_prompts(self) -> Sequence[Prompt]:
        """The prompts of every iteration."""
        return self.prompts.train[: self.plan.recipe.generation.prompts]

    def use(self, folder: str) -> None:
        """Make the policy the one saved in ``folder``; ``base`` is the untouched adapter."""
        if folder == self._current:
            return
        if folder == BASE:
            self.policy.model.load_weights(list(self._untouched.items()), strict=False)
        else:
            set_adapter(self.policy, self.run.path / folder / "adapter")
        self._current = folder

    def save(self, folder: str) -> None:
        """Save the adapter as that of the policy ``folder``."""
        with self.store.new_folder(f"{folder}/adapter") as made:
            save_adapter(self.policy, made)
        self._current = folder

    def is_over(self, phase: Phase) -> bool:
        """Whether a phase is left out, since an iteration before it has collapsed."""
        return self.last_iteration is not None and (phase.iteration or 0) > self.last_iteration

    def warn(self, message: str | None) -> None:
        """Emit a warning, if there is any."""
        if message is not None:
            self.emit("warning", message=message)

    def progress(self, phase: Phase, total: int) -> OnProgress:
        """Report what :func:`tspin_mlx.generation.batch.generate` and :func:`tspin_mlx.scoring.logprobs.score` have
        done: a few events a second at most.

        It is also where they stop on request: what is under way is dropped.
        """
        last = -_PROGRESS_EVERY

        def report(done: int, tokens: int, seconds: float) -> None:
            nonlocal last
            self.stop.check()
            if done < total and time.perf_counter() - last < _PROGRESS_EVERY:
                return
            last = time.perf_counter()
            self.emit("progress", phase=phase.target, done=done, total=total, tokens_per_s=tokens / seconds)

        return report

    def responses(self, folder: str) -> list[Response]:
        """Greedy answers that an evaluation of this run has kept."""
        rows = self.store.read_json(f"{folder}/eval.json")["responses"]
        return [response_from_row(row) for row in rows]
