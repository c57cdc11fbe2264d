"""The source of an export: one policy of a run with its base model, both verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UsageError
from ..models.folder import read_json
from ..models.of_run import find_model
from ..recipe.policy_names import BASE, BEST, INITIAL, policy_name
from ..recipe.schema import Recipe
from ..runs.policies import find_policy
from ..runs.run import Run
from .upstream import Base, find_base


@dataclass(frozen=True)
class Source:
    """One policy of a run.

    Attributes:
        run: the policy's run.
        recipe: the run's.
        policy: the policy's folder, relative to the run.
        base: the adapter's base model.
    """

    run: Run
    recipe: Recipe
    policy: str
    base: Base

    @property
    def adapter(self) -> Path:
        """The folder of the adapter."""
        return self.run.path / self.policy / "adapter"

    @property
    def label(self) -> str:
        """The policy's name in file names: ``initial``, ``iteration-2``."""
        return policy_name(self.policy).replace(" ", "-")

    def adapter_config(self) -> dict[str, Any]:
        """Return mlx-lm's configuration of the adapter, without local paths."""
        config = read_json(self.adapter, "adapter_config.json")
        return {**config, "base": {**config["base"], "name": self.base.trained_on}}


def open_source(run: Run, name: str = BEST, base_id: str | None = None, *, trusted: bool = False) -> Source:
    """Open a policy of a run and its base model, and verify both.

    Args:
        name: see :func:`tspin_mlx.runs.policies.find_policy`.
        base_id: Hub id of the base model, if the user gave one.
        trusted: accept models with their own Python code; none of it runs here.

    Raises:
        UsageError: no such policy, or the best one is the base model.
        DamagedError, SetupError, HubError: the adapter or the model has changed, or is gone.
    """
    recipe = run.recipe()
    policy = find_policy(run, name)
    if name == BEST and policy == (BASE if recipe.warmup.epochs else INITIAL):
        raise UsageError(
            f"the best policy of {run.name!r} is the model before training: there is nothing to export",
            hint="export another policy with --iteration N",
        )
    model = find_model(run, recipe, trusted=trusted)
    return Source(run, recipe, policy, find_base(model.path, model.name, base_id))
