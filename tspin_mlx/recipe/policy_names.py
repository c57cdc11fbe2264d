"""What the policies of a run are called: their folders, and the same in words."""

from __future__ import annotations

#: The folder of the model as it was loaded.
BASE = "base"
#: The folder of the policy at the start of self-play, after the warm-up if there is one.
INITIAL = "initial"
#: The name of the policy with the best held-out measure, and of a link to its adapter.
BEST = "best"


def iteration_folder(iteration: int) -> str:
    """``iterations/000`` and so on, relative to the run."""
    return f"iterations/{iteration:03}"


def policy_before(iteration: int) -> str:
    """The folder of the policy that an iteration starts from."""
    return iteration_folder(iteration - 1) if iteration else INITIAL


def policy_name(folder: str) -> str:
    """A policy's folder in words: ``base``, ``initial`` or ``iteration 0``."""
    return f"iteration {int(folder.rsplit('/', 1)[-1])}" if "/" in folder else folder


def wanted_policy(name: str, folder: str) -> str:
    """A policy by the name that was asked for, with what that stands for: ``best (iteration 0)``, but ``base``."""
    found = policy_name(folder)
    return name if found == name else f"{name} ({found})"


def policy_label(folder: str, warm: bool) -> str:
    """What a policy is called in tables.

    Args:
        folder: ``base``, ``initial`` or ``iterations/NNN``.
        warm: whether the run has a warm-up, after which the initial policy is not the model as it came.
    """
    if "/" in folder:
        return policy_name(folder)
    return "after warm-up" if folder == INITIAL and warm else "base model"
