"""The callback that monitors statistics after each round, and ends the run at an alarm if the settings say so."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from graft.core.datatypes import SampleRequest as Request
from graft.core.distributed import gather_dict, rank_zero_print, shared_errors
from graft.dataloaders.sampling import sample_batch
from graft.errors import GraftError
from graft.evaluation.alarms.statistics import SampleSet, Statistic, statistics
from graft.evaluation.alarms.tolerances import BANDS, SETTING, Alarm, Alarms, check_tolerances
from graft.reward import Reward, score_objects

FEATURED = ("internal_diversity", "feature_distance")
"""Statistics of a domain's features."""


class AlarmCallback(Callback):
    """Raises alarms after each round's validation.

    The reference is sampled once in a session, with the noise of the validation draws, and not stored: a resumed run
    samples the same draws again. The history of the statistics is in the checkpoint.

    Args:
        settings: Tolerances and the effect of an alarm.
        held_out: A reward that does not accept draws; None for no held-out reward.
        folder: Folder of the run, for the weights of the last round without an alarm.
    """

    def __init__(self, settings: Alarms, held_out: "Reward | None", folder: Path) -> None:
        self.settings, self.held_out = settings, held_out
        self.last_good_path = folder / "checkpoints" / "good.safetensors"
        self.history: list[Alarm] = []
        self.good_round: int | None = None
        self.stopped = False
        self._reference: tuple[SampleSet, dict[str, Statistic]] | None = None

    @property
    def _given(self) -> list[str]:
        """Statistics that the settings name with a tolerance."""
        return sorted(name for name, tolerance in self.settings.tolerances.items() if tolerance is not None)

    @property
    def alarms(self) -> list[Alarm]:
        """Alarms so far."""
        return [each for each in self.history if each.alarm]

    @override
    def state_dict(self) -> dict[str, Any]:
        found = [dataclasses.asdict(each) for each in self.history]
        return {"found": found, "good_round": self.good_round, "stopped": self.stopped}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history = [Alarm(**each) for each in state["found"]]
        self.good_round, self.stopped = state["good_round"], state["stopped"]

    @override
    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Raise GraftError if a tolerance names a statistic that the run does not have."""
        if stage != "fit":
            return
        names = [*pl_module.metrics(), *BANDS]
        if unknown := sorted(set(self.settings.tolerances) - set(names)):
            raise GraftError(f"{SETTING}.tolerances has {unknown[0]!r}; it must be one of {', '.join(names)}")
        for name in self._given:
            if name == "held_out" and self.held_out is None:
                raise GraftError(
                    f"{SETTING}.tolerances has 'held_out', and there is no data.evaluation.held_out_reward: give one, "
                    "or remove the tolerance"
                )
            if name in FEATURED and not pl_module.supports("features"):
                raise GraftError(
                    f"{SETTING}.tolerances has {name!r}, and {type(pl_module).__name__} has no features: remove the "
                    "tolerance"
                )
        if self.held_out is not None:
            self.held_out.setup()

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Save the weights at the start if an alarm may restore them."""
        if self.stopped:
            trainer.should_stop = True
        elif self.settings.stop_on_alarm and not self.last_good_path.exists():
            self._save_good(trainer, pl_module)

    @override
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Compare the statistics of the round's draws with their tolerances."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        pl_module.evaluators["tuned"].gather(trainer)
        if not pl_module.evaluators["tuned"].items:
            return
        skip = [name for name in (*pl_module.metrics(), *BANDS) if self.settings.tolerance(name) is None]
        try:
            if self._reference is None:
                reference = self._sample_set(trainer, pl_module, _reference_items(trainer, pl_module), skip)
                self._reference = reference, statistics(reference, reference, pl_module.metrics, skip)
                if missing := [name for name in self._given if name not in self._reference[1]]:
                    names = ", ".join(map(repr, missing))
                    rank_zero_print(
                        f"{SETTING}.tolerances has {names}, which the reference has no number of: not monitored"
                    )
            reference, reference_values = self._reference
            tuned = self._sample_set(trainer, pl_module, pl_module.evaluators["tuned"].items, skip)
        finally:
            if self.held_out is not None:
                self.held_out.teardown()
        found = statistics(tuned, reference, pl_module.metrics, skip)
        number = trainer.current_epoch
        checked = check_tolerances(self.settings, number, found, reference_values, reference.held_out_std)
        self.history = [each for each in self.history if each.round < number] + checked
        pl_module.log_dict({f"validation/{name}": found[name].value for name in BANDS if name in found})
        pl_module.log_dict({f"alarm/{each.statistic}": float(each.alarm) for each in checked})
        for each in checked:
            if each.alarm and trainer.is_global_zero:
                print(f"graft: alarm: {each}", flush=True)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save the weights of a good round, or restore them after an alarm and end the run.

        Lightning saves the checkpoint after this hook, so that the checkpoint has the restored weights.
        """
        number = trainer.current_epoch
        checked = [each for each in self.history if each.round == number]
        if not self.settings.stop_on_alarm or not checked:
            return
        if not any(each.alarm for each in checked):
            self.good_round = number
            self._save_good(trainer, pl_module)
            return
        pl_module.load_weights(self.last_good_path)
        self.stopped = trainer.should_stop = True
        if trainer.is_global_zero:
            where = "the start" if self.good_round is None else f"round {self.good_round + 1}"
            print(f"graft: stopped by an alarm; the weights are those of {where}", flush=True)

    def _save_good(self, trainer: Trainer, module: Any) -> None:
        module.save_weights(self.last_good_path)
        trainer.strategy.barrier()

    def _sample_set(self, trainer: Trainer, module: Any, items: list[Any], skip: list[str]) -> SampleSet:
        features = None
        wanted = not {*FEATURED} <= {*skip}
        if wanted and module.supports("features"):
            features = module.features(items)
        if self.held_out is None or "held_out" in skip:
            return SampleSet(items, features)
        mine = range(trainer.global_rank, len(items), trainer.world_size)
        rewards = score_objects(self.held_out, [items[i] for i in mine]).values
        values = gather_dict(trainer, dict(zip(mine, rewards, strict=True)))
        held_out = torch.tensor([*values.values()], dtype=torch.float64)
        return SampleSet(items, features, held_out, self.held_out.higher_is_better)


def _reference_items(trainer: Trainer, module: Any) -> list[Any]:
    """Return the reference's samples for the requests of the validation."""
    loader: Any = trainer.val_dataloaders
    parts: dict[int, list[Any]] = {}
    for position, index in enumerate(loader.sampler):  # iterating the loader would change the random numbers
        request: Request = dataclasses.replace(loader.dataset[index], weights="reference")
        with shared_errors(trainer):
            sampled = sample_batch(trainer, request, position)
        parts[index] = module.decode(sampled.state, request.condition)
    return [item for part in gather_dict(trainer, parts).values() for item in part]
