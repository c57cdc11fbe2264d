"""Load the base model of a run, and the adapter of any of its policies."""

from __future__ import annotations

from pathlib import Path

from ..base.errors import SetupError
from ..base.seeds import derive
from ..recipe.schema import Recipe
from ..runs.policies import find_policy
from ..runs.run import Run
from .adapters import set_adapter
from .folder import ModelFolder, open_model, resolve_model
from .load import Policy, load_policy


def find_model(run: Run, recipe: Recipe, *, trusted: bool = False) -> ModelFolder:
    """Find the run's base model: at its old path, else as the recipe names it.

    Args:
        recipe: the run's, ``run.recipe()``.
        trusted: whether the model's own Python code may run.

    Raises:
        SetupError: it is gone, or its files have changed.
        HubError: it is gone and could not be downloaded again.
    """
    known = run.about["model"]
    if Path(known["path"]).is_dir():
        model = open_model(Path(known["path"]), known["name"], trusted=trusted)
    else:
        model = resolve_model(recipe.model, trusted=trusted)
    if model.fingerprint != known["fingerprint"]:
        raise SetupError(
            f"{model.path}: the model's files have changed since the run was created",
            hint="restore them, or start a new run with run.name=NAME",
        )
    return model


def load_run(run: Run, recipe: Recipe, *, trusted: bool = False) -> Policy:
    """Load the run's model with an untrained adapter, which does not change its outputs.

    Raises:
        SetupError, HubError: see :func:`find_model`.
    """
    model = find_model(run, recipe, trusted=trusted)
    return load_policy(model, recipe.model.dtype, recipe.lora, derive(recipe.run.seed, "lora"))


def use_policy(policy: Policy, run: Run, name: str | int) -> str:
    """Load the adapter of one of the run's policies into the model.

    Args:
        name: see :func:`tspin_mlx.runs.policies.find_policy`.

    Returns:
        The policy's folder, relative to the run.

    Raises:
        UsageError: no such policy.
        DamagedError, SetupError: its adapter cannot be used.
    """
    folder = find_policy(run, name)
    set_adapter(policy, run.path / folder / "adapter")
    return folder
