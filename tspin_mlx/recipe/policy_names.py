"""Names of a run's policies (base, initial, iteration N, best) and their folders."""

from __future__ import annotations

#: The folder of the model as it was loaded.
BASE = "base"
#: The folder of the policy at the start of self-play, after the warm-up if there is one.
INITIAL = "initial"
#: The name of the policy with the best held-out measure, and of the link to its adapter.
BEST = "best"


def iteration_folder(iteration: int) -> str:
    """Return an iteration's folder, ``iterations/000`` and so on, relative to the run."""
    return f"iterations/{iteration:03}"


def policy_before(iteration: int) -> str:
    """Return the folder of the policy that an iteration starts from."""
    return iteration_folder(iteration - 1) if iteration else INITIAL


def policy_name(folder: str) -> str:
    """Return a policy's name from its folder: ``base``, ``initial`` or ``iteration 0``."""
    return f"iteration {int(folder.rsplit('/', 1)[-1])}" if "/" in folder else folder


def wanted_policy(name: str, folder: str) -> str:
    """Return the name that was asked for, with the actual policy if it differs: ``best (iteration 0)``, ``base``."""
    actual = policy_name(folder)
    return name if actual == name else f"{name} ({actual})"


def policy_label(folder: str, warm: bool) -> str:
    """Return a policy's name in tables.

    Args:
        folder: ``base``, ``initial`` or ``iterations/NNN``.
        warm: whether the run has a warm-up, after which the initial policy differs from the base model.
    """
    if "/" in folder:
        return policy_name(folder)
    return "after warm-up" if folder == INITIAL and warm else "base model"
