"""The model of a run, with the adapter of any of its policies."""

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
    """The model that the run was made with: where it was, else wherever it is found now.

    Args:
        recipe: the run's, ``run.recipe()``.
        trusted: code that comes with the model may run.

    Raises:
        SetupError: it is gone, or its files are others.
        HubError: it is gone, and could not be fetched again.
    """
    known = run.about["model"]
    if Path(known["path"]).is_dir():
        model = open_model(Path(known["path"]), known["name"], trusted=trusted)
    else:
        model = resolve_model(recipe.model, trusted=trusted)
    if model.fingerprint != known["fingerprint"]:
        raise SetupError(
            f"{model.path}: the model's files are not those that the run was made with",
            hint="put them back, or start a new run with run.name=NAME",
        )
    return model


def load_run(run: Run, recipe: Recipe, *, trusted: bool = False) -> Policy:
    """The run's model with its untouched adapter, which changes nothing.

    Raises:
        SetupError, HubError: see :func:`find_model`.
    """
    model = find_model(run, recipe, trusted=trusted)
    return load_policy(model, recipe.model.dtype, recipe.lora, derive(recipe.run.seed, "lora"))


def use_policy(policy: Policy, run: Run, name: str | int) -> str:
    """Give the loaded model the adapter of one of the run's policies.

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
