"""What is exported: one policy of a run, with the model under it."""

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
        run: whose policy it is.
        recipe: the run's.
        policy: its folder, relative to the run.
        base: the model that its adapter belongs to.
    """

    run: Run
    recipe: Recipe
    policy: str
    base: Base

    @property
    def adapter(self) -> Path:
        """The folder of its adapter."""
        return self.run.path / self.policy / "adapter"

    @property
    def label(self) -> str:
        """Its name as part of a file's name: ``initial``, ``iteration-2``."""
        return policy_name(self.policy).replace(" ", "-")

    def adapter_config(self) -> dict[str, Any]:
        """mlx-lm's description of the adapter, without any path of this machine."""
        config = read_json(self.adapter, "adapter_config.json")
        return {**config, "base": {**config["base"], "name": self.base.trained_on}}


def open_source(run: Run, name: str = BEST, base_id: str | None = None, *, trusted: bool = False) -> Source:
    """A policy of a run and its model, both verified.

    Args:
        name: see :func:`tspin_mlx.runs.policies.find_policy`.
        base_id: upstream id of the model, if the user gave one.
        trusted: the model may bring code of its own; none of it runs here.

    Raises:
        UsageError: no such policy, or the best one is the model as it was.
        DamagedError, SetupError, HubError: the adapter or the model is not what it was, or is gone.
    """
    recipe = run.recipe()
    policy = find_policy(run, name)
    if name == BEST and policy == (BASE if recipe.warmup.epochs else INITIAL):
        raise UsageError(
            f"the best policy of {run.name!r} is the model as it was before training: there is nothing to export",
            hint="--iteration N exports another one all the same",
        )
    model = find_model(run, recipe, trusted=trusted)
    return Source(run, recipe, policy, find_base(model.path, model.name, base_id))
