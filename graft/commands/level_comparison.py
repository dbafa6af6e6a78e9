"""Compare levels on draws of the reference."""

from pathlib import Path

from lightning.pytorch import Trainer

from graft.commands.levels import results, search, show
from graft.commands.session import prepare_run_dir
from graft.core import distributed
from graft.errors import GraftError
from graft.io.atomic import write_text
from graft.module import GraftModule
from graft.rollouts import Rollouts


def levels(
    module: GraftModule,
    data: Rollouts,
    run_dir: "str | Path",
    trainer: Trainer,
    config: str = "",
    every: bool = True,
) -> results.Analysis:
    """Compare levels on draws of the reference; write ``levels.json`` and return its content.

    The function also writes the figure ``levels.png``.

    Args:
        module: The model with the weights of its reference; its own level has no effect.
        data: The rollouts with the reward, the acceptance rule and the settings ``level_search``.
        run_dir: Folder of the files.
        trainer: A trainer from `trainer`, or another Lightning Trainer.
        config: Configuration as YAML, stored as ``levels.yaml``.
        every: Measure candidates that the objective refuses, too; False for what ``model.level: auto`` measures.

    Raises:
        GraftError: The model has no reference.
    """
    if module.policy.reference_file is None:
        raise GraftError("model.weights is not set; levels are compared on draws of a reference: give model.weights")
    distributed.launch(trainer, module)
    folder = prepare_run_dir(trainer, run_dir)

    def search_within() -> results.Analysis:
        data.trainer = trainer
        data.rounds.require_reward.setup()
        return search.search_levels(data, every)

    found = distributed.run_within(trainer, module, search_within)
    if trainer.is_global_zero:
        show.write_levels(found, folder)
        if config:
            write_text(folder / "levels.yaml", config)
    return found
