"""Training checkpoints: adapter, optimiser state and the first log-probabilities of each prompt; no random state."""

from __future__ import annotations

import json

from ..base import filesystem
from ..models.adapters import load_tensors, save_adapter, save_tensors, set_adapter
from ..runs.run import checkpoints_of
from ..runs.store import Store
from ..view.events import Emit
from .trainer import Trainer

_KEPT = 2  # the newest, and one more in case it is damaged


class Checkpoints:
    """The checkpoints of one phase, ``checkpoints/step-000012`` and so on next to its result.

    Args:
        target: of the phase, relative to the run.
        emit: called with a warning if a checkpoint is damaged.
    """

    def __init__(self, store: Store, target: str, emit: Emit) -> None:
        self._store, self._emit = store, emit
        self._folder = checkpoints_of(target)

    def save(self, trainer: Trainer, step: int) -> None:
        """Save the state after ``step`` updates, and remove old checkpoints."""
        with self._store.new_folder(f"{self._folder}/step-{step:06}") as folder:
            save_adapter(trainer.policy, folder)
            save_tensors(folder / "optimizer.safetensors", trainer.optimizer_state())
            logps = json.dumps(trainer.first_logps)
            filesystem.fill_file(folder / "first_logps.json", lambda path: path.write_text(logps, encoding="utf-8"))
        for name in self._names()[_KEPT:]:
            self._store.remove(name)

    def restore(self, trainer: Trainer) -> int:
        """Restore the newest intact checkpoint.

        Returns:
            The number of updates made before it; 0 if there is none, and then nothing is changed.
        """
        for name in self._names():
            if damaged := self._store.damaged(name):
                self._emit("warning", message=f"{damaged[0]} is damaged: resuming from the checkpoint before it")
                self._store.remove(name)  # its name will be needed again
                continue
            folder = self._store.root / name
            set_adapter(trainer.policy, folder)
            trainer.restore_optimizer(load_tensors(folder / "optimizer.safetensors"))
            trainer.first_logps = self._store.read_json(f"{name}/first_logps.json")
            return int(name.rsplit("-", 1)[-1])
        return 0

    def clear(self) -> None:
        """Remove all checkpoints when the phase is done."""
        self._store.remove(self._folder)

    def _names(self) -> list[str]:
        """List the checkpoints, newest first."""
        paths = (self._store.root / self._folder).glob("step-*")
        return [f"{self._folder}/{path.name}" for path in sorted(paths, reverse=True)]
