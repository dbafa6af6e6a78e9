"""Checks before the first round: settings that contradict each other, runs that cannot be done, hooks that fail."""

from typing import Any

from lightning.pytorch import Trainer

from graft.core import distributed
from graft.dataloaders.training import local_batch_size
from graft.errors import GraftError
from graft.module import GraftModule
from graft.rollouts import feasible, preflight


def check_run(data: Any, module: GraftModule, trainer: Trainer) -> None:
    """Raise GraftError for what would otherwise fail after a round.

    Args:
        data: The `graft.rollouts.Rollouts`.
        module: The model.
        trainer: The trainer of the run.
    """
    policy, rounds, evaluation = module.policy, data.num_rounds, data.evaluation
    _check_prefixes(data, module)
    if module.level_setting == "auto":
        _check_auto_level(data, module)
    else:  # otherwise it is checked when the level is known
        data.source.inspect(module, policy)
        module.objective.check(policy, data.rounds.spec)
    local_batch_size(trainer, data.train_batch_size)
    # a scored file takes time to prepare, and the other ranks find the results in the cache
    distributed.on_rank_zero(trainer, lambda: data.source.open(module))
    data.source.open(module)
    feasible.check_rounds(module, policy, data.rounds, rounds, data.train_batch_size, data.steps_per_epoch)
    name = "data.evaluation"
    feasible.check_sampling(module, policy, f"{name}.validation_draws", evaluation.validation_draws, rounds)
    feasible.check_sampling(module, policy, f"{name}.test_draws", evaluation.test_draws, 2)
    least, share = data.accept.min_draws, data.budget.proxy_fraction
    if data.proxy_reward is not None and share * data.draws < least:
        raise GraftError(
            f"data.budget.proxy_fraction is {share:g}, so that the reward scores less than {least} of "
            f"{data.draws} draws, which the rule '{data.accept}' needs: raise it"
        )
    calls = data.rounds.reward_calls
    if data.budget.max_calls is not None and calls < least:
        raise GraftError(
            f"data.budget.max_calls is {data.budget.max_calls}, of which validation and comparison take "
            f"{evaluation.reward_calls(rounds)}: the {rounds} rounds have {max(0, calls)} calls each, but the rule "
            f"'{data.accept}' needs {least}: raise it, or lower {name}.test_draws and {name}.validation_draws"
        )


def _check_prefixes(data: Any, module: GraftModule) -> None:
    """Raise GraftError if samples are to share their first steps and cannot."""
    if data.samples_per_prefix == 1:
        return
    name = f"data.samples_per_prefix is {data.samples_per_prefix}"
    if data.source.name != "current":
        raise GraftError(
            f"{name}, which needs samples of the tuned model: set data.source to current, or leave it at 1"
        )
    if module.policy.corrector is not None or module.policy.upper_level == 1:
        raise GraftError(
            f"{name}, but no steps can be shared: the reference samples none above model.upper_level. Set "
            "model.upper_level below 1, without a corrector"
        )
    if not module.policy.process.has_log_prob:
        raise GraftError(
            f"{name}, but the sampler is deterministic, so that the samples of a prefix would be equal: set eta > 0 in "
            "every field of the process"
        )


def _check_auto_level(data: Any, module: GraftModule) -> None:
    if not data.source.is_model:
        raise GraftError("model.level 'auto' needs samples of the reference, not a scored file: give a level")
    upper = module.policy.upper_level
    if max(data.level_search.candidates_on_grid(module.policy.steps)) >= upper:
        raise GraftError(
            f"model.level 'auto' chooses among data.level_search.candidates, which must lie below model.upper_level, "
            f"{upper:g}: name such ones"
        )
    if data.budget.max_calls is not None:
        raise GraftError(
            "data.budget.max_calls does not cover the reward calls of model.level 'auto': give the level, from "
            "graft levels"
        )
    with module.policy.at_level(0.0):
        module.objective.check(module.policy, data.rounds.spec)
    refused = refused_levels(data, module)
    if len(refused) == len(data.level_search.candidates_on_grid(module.policy.steps)):
        least = min(refused)
        raise GraftError(
            f"model.level 'auto' has no candidate that the objective takes: name smaller data.level_search.candidates "
            f"than {least:.4g}. {refused[least]}"
        )


def refused_levels(data: Any, module: GraftModule) -> dict[float, str]:
    """Return the candidates of ``auto`` that the objective refuses, with its reasons.

    The result is empty if the objective refuses level 0 too, since its reason is then another one than the level.
    """
    policy, reasons = module.policy, dict[float, str]()
    for level in (0.0, *data.level_search.candidates_on_grid(policy.steps)):
        try:
            with policy.at_level(level):
                module.objective.check(policy, data.rounds.spec)
        except GraftError as error:
            reasons[level] = str(error)
    return {} if 0.0 in reasons else reasons


def check_hooks(data: Any) -> None:
    """Call the domain's hooks once before the first round of a session, so that a broken hook fails early."""
    trainer = data.trainer
    assert trainer is not None
    if trainer is data.hooks_checked or trainer.current_epoch == trainer.max_epochs:
        return
    data.hooks_checked = trainer
    needs = frozenset().union(*(each.requires for each in data.filters))
    evaluation, module = data.evaluation, data.module
    monitored = evaluation.alarms is not None and evaluation.validation_draws and module.supports("features")
    count = min(filter(None, (evaluation.validation_draws, evaluation.test_draws)))
    features = "features" in needs or bool(monitored)
    preflight.try_hooks(module, trainer, data.reward is not None, features, "known" in needs, count, "reference")
