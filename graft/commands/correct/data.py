"""The data of inverse noise correction: real samples, inverted to the noise that a frozen flow turns into them."""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, DistributedSampler
from typing_extensions import override

from graft.commands.correct.inverted_chunk import InvertedChunk, passes_round_trip
from graft.commands.correct.inverter import InversionSettings, Inverter, check_invertible, last_step_std
from graft.commands.correct.samples import SplitSource
from graft.core import limits, seeding
from graft.core.datatypes import TrainingBatch, Weights
from graft.core.state import Condition, State, size, take
from graft.dataloaders.sampling import SampleRequests
from graft.dataloaders.training import RoundDataset, identity_collate, local_batch_size, training_dataloader
from graft.errors import GraftError
from graft.module import GraftModule
from graft.reward import FunctionReward, Reward, bind
from graft.runs import interruption
from graft.solvers.fixed_point import Anderson, FixedPointSolver

SIDES: tuple[Weights, Weights] = ("reference", "tuned")
"""Weights that sample in the final comparison."""


class InvertedNoiseData(LightningDataModule):
    """Inverts the model's frozen flow on data and serves the noise to the corrector.

    The noise is stored on disk. The trainer needs ``reload_dataloaders_every_n_epochs=1``, because an epoch is
    ``steps_per_epoch`` batches in a new order.

    Args:
        source: The domain's data, as `graft pretrain` takes them.
        samples: Largest number of samples that are inverted, chosen with ``seed``; ``null`` for all samples that are
            not held out.
        num_dequantizations: Number of dequantisations of each sample; each one is inverted.
        dequantize_std: Standard deviation of the Gaussian noise that is added to the data before inversion, in the
            state's unit. ``auto``: the standard deviation of a uniform number as wide as the noise of the last step.
            Data on a grid, or thinner than the last step, have no noise of their own.
        fixed_point_solver: Solver of a sampler step; `graft.solvers.fixed_point.Anderson` if ``null``.
        max_round_trip_error: Largest root mean square distance between a sample and its round trip, the flow's sample
            of its noise, in the state's unit. A sample with a larger distance is invalid and is not used.
        max_invalid_fraction: Largest share of invalid samples. With more, the remaining samples would have another
            distribution than the data, and the run ends.
        num_certificate_draws: Number of samples of known noise that are inverted, for the certificate; 0 for none.
        batch_size: Number of samples in a chunk, which are inverted at a time.
        train_batch_size: Number of samples in an optimizer step.
        steps_per_epoch: Number of optimizer steps in an epoch.
        val_fraction: Share of the inverted samples that is held out for the validation loss.
        reward: Reward of the samples of the final comparison; ``null`` for none.
        test_draws: Number of samples of the reference and of the corrected model in the final comparison.
        test_fraction: Share of the source's samples that is held out, chosen with ``seed``; at most twice
            ``test_draws`` are. Neither the corrector nor the flow that is trained longer sees them. Distances are
            measured to one half of them, and the other half gives the floor. The data of the frozen flow's training
            are not known.
        num_repeats: Number of independent sets of samples, and of halves of the held-out samples, for each distance.
        baseline_steps: Numbers of steps of the flow alone, in the table of distance against cost.
        baseline_warps: Warps of the flow's clock, t = u^warp, in addition to the model's own; the flow alone may be
            better with another warp than the one in which it can be inverted.
        train_longer_baseline: True to train a copy of the flow on all data that are not held out for the cost of the
            inversion and the corrector, for comparison.
        longer_learning_rate: Learning rate of the copy's training.
        run_dir: Folder of the run; the inverted samples are in its ``recovered/``.
        seed: Seed of the split, the dequantisation and the order of training; linked to ``--seed_everything``.

    Raises:
        GraftError: A setting is out of range.
    """

    def __init__(
        self,
        source: LightningDataModule,
        samples: "int | None" = None,
        num_dequantizations: int = 1,
        dequantize_std: 'float | Literal["auto"]' = 0.0,
        fixed_point_solver: "FixedPointSolver | None" = None,
        max_round_trip_error: float = 0.01,
        max_invalid_fraction: float = 0.1,
        num_certificate_draws: int = 256,
        batch_size: int = 128,
        train_batch_size: int = 128,
        steps_per_epoch: int = 500,
        val_fraction: float = 0.05,
        reward: "Reward | str | None" = None,
        test_draws: int = 2000,
        test_fraction: float = 0.5,
        num_repeats: int = 3,
        baseline_steps: "list[int] | None" = None,
        baseline_warps: "list[float] | None" = None,
        train_longer_baseline: bool = True,
        longer_learning_rate: float = 5e-4,
        run_dir: "str | None" = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("samples", samples, 2),
            ("num_dequantizations", num_dequantizations, 1),
            ("num_certificate_draws", num_certificate_draws, 0),
            ("batch_size", batch_size, 1),
            ("train_batch_size", train_batch_size, 1),
            ("steps_per_epoch", steps_per_epoch, 1),
            ("test_draws", test_draws, 2),
            ("num_repeats", num_repeats, 1),
            *(("baseline_steps", steps, 1) for steps in baseline_steps or ()),
        ):
            limits.check(f"data.{name}", value, least)
        for name, share in (("val_fraction", val_fraction), ("max_invalid_fraction", max_invalid_fraction)):
            limits.check(f"data.{name}", share, 0, 1, below=True)
        limits.check("data.test_fraction", test_fraction, 0, 1, above=True, below=True)
        if (dequantize_std != "auto") if isinstance(dequantize_std, str) else not dequantize_std >= 0:
            raise GraftError(f"data.dequantize_std is {dequantize_std!r}; it must be at least 0, or 'auto'")
        self.source, self.samples = source, samples
        self.num_dequantizations, self.dequantize_std = num_dequantizations, dequantize_std
        self.fixed_point_solver = fixed_point_solver if fixed_point_solver is not None else Anderson()
        self.max_round_trip_error, self.max_invalid_fraction = max_round_trip_error, max_invalid_fraction
        self.num_certificate_draws = num_certificate_draws
        self.batch_size, self.train_batch_size, self.steps_per_epoch = batch_size, train_batch_size, steps_per_epoch
        self.val_fraction, self.test_draws, self.test_fraction = val_fraction, test_draws, test_fraction
        self.num_repeats = num_repeats
        self.reward = FunctionReward(reward) if isinstance(reward, str) else reward
        self.baseline_steps = baseline_steps if baseline_steps is not None else [1, 2, 4, 8, 16, 32]
        self.baseline_warps = baseline_warps if baseline_warps is not None else [1.0]
        for warp in self.baseline_warps:
            limits.check("a warp of data.baseline_warps", warp, 0, above=True)
        self.train_longer_baseline, self.longer_learning_rate = train_longer_baseline, longer_learning_rate
        self.run_dir = Path(run_dir) if run_dir is not None else None
        self.seed = seed
        self.recovered: InvertedChunk | None = None
        """All inverted samples; None before training has begun."""
        self.certificate: InvertedChunk | None = None
        """Inverted samples of known noise; None before training has begun, or if there are none."""
        self._chosen: SplitSource | None = None
        self._real: tuple[State, Condition] | None = None
        self._held_out: tuple[State, Condition] | None = None

    @property
    def module(self) -> GraftModule:
        """The model of the trainer, which samples with corrected noise."""
        assert self.trainer is not None
        module = self.trainer.lightning_module
        assert isinstance(module, GraftModule)
        return module

    def noise_std(self, module: GraftModule) -> float:
        """Return the standard deviation of the noise that is added to the data, in the state's unit."""
        return last_step_std(module) if isinstance(self.dequantize_std, str) else self.dequantize_std

    @override
    def prepare_data(self) -> None:
        self.source.prepare_data()

    @override
    def setup(self, stage: str) -> None:
        if stage == "fit":
            check_invertible(self.module)
            assert self.trainer is not None
            local_batch_size(self.trainer, self.train_batch_size)
            self.source.setup("fit")
        bind(self.reward, self.module)
        if self.reward is not None and stage != "predict":
            self.reward.setup()

    @property
    def chosen(self) -> SplitSource:
        """The source's samples, split into training samples and held-out samples."""
        if self._chosen is None:
            encode, most = self.module.encode, 2 * self.test_draws
            self._chosen = SplitSource(
                self.source, encode, self.samples, self.test_fraction, most, self.batch_size, self.seed
            )
        return self._chosen

    @property
    def real(self) -> tuple[State, Condition]:
        """(state, condition) of the samples that are inverted, before dequantisation."""
        if self._real is None:
            self._real = self.chosen.training()
        return self._real

    @property
    def held_out(self) -> tuple[State, Condition]:
        """(state, condition) of the held-out samples, which distances are measured to."""
        if self._held_out is None:
            self._held_out = self.chosen.held_out()
        return self._held_out

    @override
    def train_dataloader(self) -> "DataLoader[Any] | list[Any]":
        """Invert the data if that is not done, and return the batches of an epoch.

        Raises:
            GraftError: The trainer keeps its data loaders, or too many samples cannot be inverted.
        """
        assert self.trainer is not None
        if getattr(self.trainer, "reload_dataloaders_every_n_epochs", 1) != 1:
            raise GraftError(
                "reload_dataloaders_every_n_epochs must be 1, since each epoch has an order of its own. Use "
                "Trainer(reload_dataloaders_every_n_epochs=1)."
            )
        done = interruption.completed_batches(self.trainer)
        self.recover()
        epoch = self.trainer.current_epoch
        if epoch == self.trainer.max_epochs:  # the run resumes after its last epoch
            return []
        examples = self.examples()
        corrector = self.module.policy.corrector
        assert corrector is not None
        if not done:
            corrector.fit([examples])
        return training_dataloader(
            [examples], self.trainer, self.train_batch_size, self.steps_per_epoch, self.seed, done
        )

    @override
    def val_dataloader(self) -> "DataLoader[Any] | list[Any]":
        """Return batches of the held-out noise; every rank gets all of them."""
        self.recover()
        examples = self.examples(held_out=True)
        count = size(examples.condition) if examples.condition else 0
        if not count:
            return []
        data = RoundDataset([examples], count, self.seed, "held out")
        every: DistributedSampler[Any] = DistributedSampler(data, 1, 0, shuffle=False)
        return DataLoader(data, self.batch_size, sampler=every, collate_fn=identity_collate)

    @override
    def test_dataloader(self) -> "list[DataLoader[Any]]":
        """Return requests for samples of the reference and of the corrected model.

        The conditions of both are the same.
        """
        each = [SampleRequests(self.module, self.test_draws, self.batch_size, ("test",), weights) for weights in SIDES]
        return [DataLoader(requests, batch_size=None) for requests in each]

    def examples(self, held_out: bool = False) -> TrainingBatch:
        """Return the recovered noise for training, or for validation if ``held_out``.

        Training and validation share no sample.
        """
        assert self.recovered is not None
        chunk = self.recovered
        good = passes_round_trip(chunk, self.max_round_trip_error)
        items = int(chunk.item.max()) + 1
        order = torch.randperm(items, generator=seeding.make_generator(self.seed, "validation"))
        apart = torch.isin(chunk.item, order[: math.floor(self.val_fraction * items)])
        rows = (good & (apart if held_out else ~apart)).nonzero()[:, 0]
        return TrainingBatch(take(chunk.inverted.noise, rows), take(chunk.condition, rows))

    def recover(self) -> None:
        """Invert the data and the samples of known noise once; chunks on disk are read.

        Raises:
            GraftError: Too many samples cannot be inverted.
        """
        if self.recovered is not None:
            return
        assert self.trainer is not None and self.run_dir is not None
        settings = InversionSettings(
            num_dequantizations=self.num_dequantizations,
            dequantize_std=self.noise_std(self.module),
            fixed_point_solver=self.fixed_point_solver,
            max_round_trip_error=self.max_round_trip_error,
            max_invalid_fraction=self.max_invalid_fraction,
            num_certificate_draws=self.num_certificate_draws,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        inverter = Inverter(self.module, self.trainer, settings, self.run_dir / "recovered")
        with self.trainer.precision_plugin.tensor_init_context():  # noise has the precision of the samples
            self.recovered = inverter.invert_data(lambda number: self.chosen.training(number) if number else self.real)
            self.certificate = inverter.invert_known() if self.num_certificate_draws else None
