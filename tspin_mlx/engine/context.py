"""The context shared by the phases of a run: run, loaded policy, examples, events, stop requests."""

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
        last_iteration: the iteration that collapsed, after which self-play ends; None if none did.
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
            self.warn("mlx-lm does not read this model's RoPE settings: to use the adapter there, fuse it")
        if not policy.scorer.split:
            self.warn("this model's LM head was not found: training computes all logits, which is slower")
        elif not policy.scorer.shares:
            self.warn("this model cannot share prompts: each is computed once per response, which is slower")

    @property
    def self_play_prompts(self) -> Sequence[Prompt]:
        """The prompts of every iteration."""
        return self.prompts.train[: self.plan.recipe.generation.prompts]

    def use(self, folder: str) -> None:
        """Switch to the policy saved in ``folder``; ``base`` is the untrained adapter."""
        if folder == self._current:
            return
        if folder == BASE:
            self.policy.model.load_weights(list(self._untouched.items()), strict=False)
        else:
            set_adapter(self.policy, self.run.path / folder / "adapter")
        self._current = folder

    def save(self, folder: str) -> None:
        """Save the adapter as that of the policy ``folder``."""
        with self.store.new_folder(f"{folder}/adapter") as path:
            save_adapter(self.policy, path)
        self._current = folder

    def is_over(self, phase: Phase) -> bool:
        """Return whether a phase is skipped because an iteration before it collapsed."""
        return self.last_iteration is not None and (phase.iteration or 0) > self.last_iteration

    def warn(self, message: str | None) -> None:
        """Emit a warning, unless it is None."""
        if message is not None:
            self.emit("warning", message=message)

    def progress(self, phase: Phase, total: int) -> OnProgress:
        """Return a progress callback for :func:`tspin_mlx.generation.batch.generate` and
        :func:`tspin_mlx.scoring.logprobs.score`, which emits a few events per second at most.

        It also raises :class:`tspin_mlx.base.errors.Stopped` on request, which drops work in progress.
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
        """Read the greedy answers of an earlier evaluation."""
        rows = self.store.read_json(f"{folder}/eval.json")["responses"]
        return [response_from_row(row) for row in rows]
