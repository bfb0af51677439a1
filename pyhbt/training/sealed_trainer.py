"""A ``transformers.Trainer`` whose checkpoints are whole or passed over, and rotated only once they are sealed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer

from pyhbt.seals import MANIFEST, seal
from pyhbt.training import checkpoints
from pyhbt.training.distributed import world_size


class SealedTrainer(Trainer):
    """The Trainer, but for how it writes, rotates, uploads and finds its checkpoints."""

    def whole_checkpoint(self, given: str | bool | None) -> Path | None:
        """The checkpoint to resume from: ``given``, or for True the last whole one of ``output_dir``.

        None for False and None, and where not even the first checkpoint was finished.

        Raises:
            FileNotFoundError: True, and there is no checkpoint.
            CheckpointError: the checkpoint, or with True every one, is damaged.
            ValueError: the checkpoint was saved with ``save_only_model``.
        """
        if isinstance(given, bool) or given is None:
            found = self._last_checkpoint() if given else None
        else:
            found = Path(given)
            checkpoints.check(found)
        if found is not None and not checkpoints.resumable(found):
            raise ValueError(
                f"resume_from_checkpoint: found {found}, saved with save_only_model, expected one with the optimizer's "
                "state"
            )
        return found

    def _last_checkpoint(self) -> Path | None:
        """The last whole checkpoint; None where the training ended before it had finished its first."""
        folder = Path(str(self.args.output_dir))
        found = checkpoints.to_resume(folder)
        last = checkpoints.last_whole(folder)
        if last is None and any((path / MANIFEST).is_file() for path in found):
            raise checkpoints.CheckpointError(f"{folder}: no whole checkpoint to resume from")
        return last

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """The Trainer's checkpoint, sealed by a manifest; then older ones go.

        Raises:
            CheckpointError: it could not be written; what there is of it is removed.
        """
        folder = Path(self._get_output_dir(trial=trial))
        target = folder / f"checkpoint-{self.state.global_step}"
        self._alone(lambda: checkpoints.discard(target))
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # rotation comes after the seal
        try:
            super()._save_checkpoint(model, trial)
            self._wait()
            self._alone(lambda: seal(target))
        except checkpoints.WRITE_ERRORS as error:
            checkpoints.discard(target)
            raise checkpoints.CheckpointError(
                f"{target} could not be written ({error}); {checkpoints.last_in_words(folder)}"
            ) from error
        finally:
            self.args.save_total_limit = limit
        self._alone(lambda: checkpoints.keep_last(folder, limit, self.state.best_model_checkpoint))
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(target))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Upload the whole encoder, not only the weights. The Trainer calls this once before the seal: too early."""
        if not (Path(checkpoint_folder) / MANIFEST).is_file():
            return
        if self.args.hub_strategy != "end":
            self._save()
        super()._push_from_checkpoint(checkpoint_folder)

    def _alone(self, action: Callable[[], object]) -> None:
        """Do it on the rank that writes; the others wait."""
        if self.args.should_save:
            action()
        self._wait()

    def _wait(self) -> None:
        if world_size() > 1:
            torch.distributed.barrier()
