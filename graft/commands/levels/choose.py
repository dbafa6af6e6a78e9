"""ChooseLevel: the callback that chooses ``model.level: auto`` before the first round."""

from typing import Any

from lightning.pytorch import Callback, Trainer
from typing_extensions import override

from graft.commands.levels.results import NAME, Analysis
from graft.commands.levels.search import origin, search_levels
from graft.errors import GraftError
from graft.rollouts import checks


class ChooseLevel(Callback):
    """Compares levels when a fit starts if ``model.level`` is ``auto``, and sets the chosen level.

    The folder of the run keeps the comparison, so that a run that is resumed has the same level.
    """

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if pl_module.level_setting != "auto":
            return
        if data.run_dir is None:
            raise GraftError("data.run_dir is null; it must be a folder, for the chosen level. Give data.run_dir.")
        if (data.run_dir / NAME).exists():
            pl_module.policy.set_level(Analysis.read(data.run_dir, origin(data)).level)
            return
        checks.check_hooks(data)
        found = search_levels(data, every=False)
        if trainer.is_global_zero:
            from graft.commands.levels import show  # matplotlib takes a second

            show.write_levels(found, data.run_dir)
            print(f"graft: {found.reason}", flush=True)
        trainer.strategy.barrier()
        pl_module.policy.set_level(found.level)
