"""Try every hook of a domain on three samples, before anything is trained."""

import torch
from lightning.pytorch import LightningDataModule

from graft.commands.check.files import FileTrials
from graft.commands.check.objects import ObjectTrials
from graft.commands.check.sampling import SamplingTrials
from graft.commands.check.training import TrainingTrials
from graft.commands.check.trials import COUNT, Trial, faults
from graft.module import GraftModule
from graft.rollouts import Rollouts

__all__ = ["COUNT", "Trial", "check_domain", "faults"]


def check_domain(module: GraftModule, data: "LightningDataModule | None" = None) -> list[Trial]:
    """Try every hook of a domain on three samples and return the results.

    Args:
        module: The model; its weights may be untrained.
        data: Rollouts, whose reward is tried, or a data set, whose first batch is tried; None for neither.
    """
    results: list[Trial] = []
    rollouts = data if isinstance(data, Rollouts) else None
    with module.policy.whole_clock(), torch.random.fork_rng():
        with torch.no_grad(), module.policy.eval_weights():
            sampling = SamplingTrials(module, results)
            sampling.run()
            if sampling.items is not None:
                ObjectTrials(module, results).run(sampling.items, rollouts.reward if rollouts is not None else None)
                FileTrials(module, results).run(sampling.items)
        data_set = data if rollouts is None else None
        TrainingTrials(module, results).run(sampling.state, sampling.condition, data_set)
    return results
