"""The callback that looks after each round, and ends the run where it is told to."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from graft.alarms.statistics import SampleSet, Statistic, statistics
from graft.alarms.tolerances import BANDS, Alarm, Alarms, check_tolerances
from graft.batches import SampleRequest as Request
from graft.batches.sampling import sample_batch
from graft.distributed import gather_dict, shared_errors
from graft.errors import GraftError
from graft.module import GraftModule
from graft.reward import Reward, ask


class AlarmCallback(Callback):
    """Raises alarms after each round's validation.

    The reference is drawn once in a process, with the noise of the validation draws, and not kept: a run that goes on
    draws the same again. What was found is in the checkpoint.

    Args:
        settings: What is watched, and how.
        held_out: A reward that the draws are not accepted by; None where there is none.
        folder: Of the run; the last good weights are kept in it.
    """

    def __init__(self, settings: Alarms, held_out: "Reward | None", folder: Path) -> None:
        self.settings, self.held_out = settings, held_out
        self.last_good_path = folder / "checkpoints" / "good.safetensors"
        self.history: list[Alarm] = []
        self.good_round: int | None = None
        self.stopped = False
        self._reference: tuple[SampleSet, dict[str, Statistic]] | None = None

    @property
    def alarms(self) -> list[Alarm]:
        """Raised so far."""
        return [each for each in self.history if each.alarm]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        found = [dataclasses.asdict(each) for each in self.history]
        return {"found": found, "good_round": self.good_round, "stopped": self.stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.history = [Alarm(**each) for each in state["found"]]
        self.good_round, self.stopped = state["good_round"], state["stopped"]

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Refuse bands of what there is not."""
        if stage != "fit":
            return
        names = [*pl_module.metrics(), *BANDS]
        if unknown := sorted(set(self.settings.tolerances) - set(names)):
            raise GraftError(
                f"data.alarms.tolerances has {unknown[0]!r}, but what can be watched is {', '.join(names)}"
            )
        if self.held_out is not None:
            self.held_out.setup()

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Keep what the run starts from, where it may have to come back to it."""
        if self.stopped:
            trainer.should_stop = True
        elif self.settings.stop_on_alarm and not self.last_good_path.exists():
            self._keep(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Judge the round's draws."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        pl_module.evaluators["tuned"].gather(trainer)
        if not pl_module.evaluators["tuned"].items:
            return
        skip = [name for name in (*pl_module.metrics(), *BANDS) if self.settings.band(name) is None]
        try:
            if self._reference is None:
                drawn = self._draws(trainer, pl_module, _reference_items(trainer, pl_module), skip)
                self._reference = drawn, statistics(drawn, drawn, pl_module.metrics, skip)
            drawn, own = self._reference
            tuned = self._draws(trainer, pl_module, pl_module.evaluators["tuned"].items, skip)
        finally:
            if self.held_out is not None:
                self.held_out.teardown()
        found = statistics(tuned, drawn, pl_module.metrics, skip)
        number = trainer.current_epoch
        said = check_tolerances(self.settings, number, found, own, drawn.held_out_std)
        self.history = [each for each in self.history if each.round < number] + said
        pl_module.log_dict({f"validation/{name}": found[name].value for name in BANDS if name in found})
        pl_module.log_dict({f"alarm/{each.statistic}": float(each.alarm) for each in said})
        for each in said:
            if each.alarm and trainer.is_global_zero:
                print(f"graft: alarm: {each}", flush=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Keep a good round's weights; after an alarm go back to the last ones and end. The checkpoint comes later."""
        number = trainer.current_epoch
        said = [each for each in self.history if each.round == number]
        if not self.settings.stop_on_alarm or not said:
            return
        if not any(each.alarm for each in said):
            self.good_round = number
            self._keep(trainer, pl_module)
            return
        pl_module.load_weights(self.last_good_path)
        self.stopped = trainer.should_stop = True
        if trainer.is_global_zero:
            where = "the start" if self.good_round is None else f"round {self.good_round + 1}"
            print(f"graft: stopped by an alarm; the weights are those of {where}", flush=True)

    def _keep(self, trainer: Trainer, module: GraftModule) -> None:
        module.save_weights(self.last_good_path)
        trainer.strategy.barrier()

    def _draws(self, trainer: Trainer, module: GraftModule, items: list[Any], skip: list[str]) -> SampleSet:
        features = None
        wanted = not {"internal_diversity", "feature_distance"} <= {*skip}
        if wanted and module.has_features:
            features = module.features(items)
        if self.held_out is None or "held_out" in skip:
            return SampleSet(items, features)
        mine = range(trainer.global_rank, len(items), trainer.world_size)
        said = ask(self.held_out, [items[i] for i in mine]).values
        values = gather_dict(trainer, dict(zip(mine, said, strict=True)))
        held_out = torch.tensor([*values.values()], dtype=torch.float64)
        return SampleSet(items, features, held_out, self.held_out.higher_is_better)


def _reference_items(trainer: Trainer, module: GraftModule) -> list[Any]:
    """The reference's draws for the requests that the tuned model has just had."""
    loader: Any = trainer.val_dataloaders
    parts: dict[int, list[Any]] = {}
    for position, index in enumerate(loader.sampler):  # not the loader itself: that would move the random numbers
        request: Request = dataclasses.replace(loader.dataset[index], weights="reference")
        with shared_errors(trainer):
            drawn = sample_batch(trainer, request, position)
        parts[index] = module.decode(drawn.state, request.condition)
    return [item for part in gather_dict(trainer, parts).values() for item in part]
