"""The data of inverse noise correction: real samples carried back to the noise that a frozen flow makes them of."""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler
from tqdm.auto import tqdm

from graft import files, seeding
from graft.batches import TrainingBatch, Weights
from graft.batches.sampling import SampleRequests
from graft.batches.training_data import RoundDataset, identity_collate, local_batch_size, training_dataloader
from graft.correct.inverted_chunk import InvertedChunk, concatenate, passes_round_trip, too_many_lost_message
from graft.correct.samples import Samples
from graft.corrector import gaussian_fields
from graft.errors import GraftError
from graft.fingerprint import fingerprint_hash
from graft.inversion import Anderson, FixedPointSolver
from graft.inversion.flow import DeterministicSampler, InversionResult, invert, recovery_error
from graft.module import GraftModule
from graft.reward import FunctionReward, Reward
from graft.runs import interruption
from graft.state import Condition, State, apply, size, take

VERSION = 3
"""Of the files of recovered noise; from 2 on they hold the network calls that it took."""

WHOSE: tuple[Weights, Weights] = ("reference", "tuned")


class InvertedNoiseData(LightningDataModule):
    """Inverts the model's frozen flow on a domain's data, keeps the noise on disk and serves it to the corrector.

    Needs ``Trainer(reload_dataloaders_every_n_epochs=1)``: an epoch is ``steps_per_epoch`` batches in a fresh order.

    Args:
        source: The domain's data, as `graft pretrain` takes it.
        samples: At most so many of its samples are inverted, drawn with ``seed``; ``null``: all that are not held out.
        num_dequantizations: How often each is dequantised afresh and inverted.
        dequantize_std: Standard deviation of the Gaussian noise that is added to the data first, in the state's unit;
            ``auto``: that of a uniform number as wide as the noise of the last step. Data on a grid, or thinner than
            the last step, have no noise of their own.
        fixed_point_solver: That solves a step; `graft.inversion.Anderson` if ``null``.
        max_round_trip_error: Largest root mean square distance between a sample and what the flow makes of its noise,
            in the state's unit; samples that come back further away are left out.
        max_invalid_fraction: Share of left-out samples above which nothing is learned: without them it is another law.
        num_certificate_draws: Draws whose known noise is recovered, for the certificate; 0: none.
        batch_size: Samples in a chunk, inverted at a time.
        train_batch_size: Samples in an optimizer step.
        steps_per_epoch: Optimizer steps in an epoch.
        val_fraction: Share of the samples whose noise is held out, for the validation loss.
        reward: Scores the draws of the final comparison, and says how samples that are left out differ; ``null``: none.
        test_draws: Draws of the reference and of the corrected model that are judged and written.
        test_share: Share of the source's samples that is held out, drawn with ``seed``: neither the corrector nor the
            flow that is trained longer sees them, the distances are to one half of them, and the other half gives the
            floor. At most twice ``test_draws`` are. The frozen flow itself was trained on whatever it was trained on.
        num_repeats: Independent sets of draws, and of halves of the held-out samples, behind each distance.
        baseline_steps: Numbers of steps of the flow alone, in the table of distance against cost.
        baseline_warps: Spreads of these steps, t = u^warp, that are tried besides the model's own: the flow alone may
            be better with another one than that in which it can be inverted.
        train_longer_baseline: Train a copy of the flow on the same data for what the inversion and the corrector cost,
            to compare.
        longer_learning_rate: Of that.
        run_dir: Folder of the run, in which ``recovered/`` is kept.
        seed: Of the split, the dequantisation and the order of training; linked to ``--seed_everything``.
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
        test_share: float = 0.5,
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
            ("samples", 2 if samples is None else samples, 2),
            ("num_dequantizations", num_dequantizations, 1),
            ("num_certificate_draws", num_certificate_draws, 0),
            ("batch_size", batch_size, 1),
            ("train_batch_size", train_batch_size, 1),
            ("steps_per_epoch", steps_per_epoch, 1),
            ("test_draws", test_draws, 2),
            ("num_repeats", num_repeats, 1),
            *(("baseline_steps", steps, 1) for steps in baseline_steps or ()),
        ):
            if value < least:
                raise GraftError(f"data.{name} is {value}, but it must be at least {least}")
        for name, share in (("val_fraction", val_fraction), ("max_invalid_fraction", max_invalid_fraction)):
            if not 0 <= share < 1:
                raise GraftError(f"data.{name} is {share:g}, but it is a share in [0, 1)")
        if not 0 < test_share < 1:
            raise GraftError(
                f"data.test_share is {test_share:g}; it must be between 0 and 1, since some samples are inverted and "
                "others judge"
            )
        if (dequantize_std != "auto") if isinstance(dequantize_std, str) else not dequantize_std >= 0:
            raise GraftError(f"data.dequantize_std is {dequantize_std!r}, but it is a standard deviation, or 'auto'")
        self.source, self.samples, self.num_dequantizations, self.asked_spread = (
            source,
            samples,
            num_dequantizations,
            dequantize_std,
        )
        self.fixed_point_solver = fixed_point_solver if fixed_point_solver is not None else Anderson()
        self.max_round_trip_error, self.max_invalid_fraction, self.num_certificate_draws = (
            max_round_trip_error,
            max_invalid_fraction,
            num_certificate_draws,
        )
        self.batch_size, self.train_batch_size, self.steps_per_epoch = batch_size, train_batch_size, steps_per_epoch
        self.val_fraction, self.test_draws, self.test_share = val_fraction, test_draws, test_share
        self.num_repeats = num_repeats
        self.reward = FunctionReward(reward) if isinstance(reward, str) else reward
        self.baseline_steps = baseline_steps if baseline_steps is not None else [1, 2, 4, 8, 16, 32]
        self.baseline_warps = baseline_warps if baseline_warps is not None else [1.0]
        if any(not warp > 0 for warp in self.baseline_warps):
            raise GraftError(f"data.baseline_warps is {self.baseline_warps}, but t = u^warp needs warps above 0")
        self.train_longer_baseline, self.longer_learning_rate = train_longer_baseline, longer_learning_rate
        self.run_dir = Path(run_dir) if run_dir is not None else None
        self.seed = seed
        self.recovered: InvertedChunk | None = None
        """All that was inverted; known as soon as training has begun."""
        self.certificate: InvertedChunk | None = None
        """Draws whose noise was known, likewise."""
        self._samples: Samples | None = None
        self._real: tuple[State, Condition] | None = None
        self._held_out: tuple[State, Condition] | None = None

    @property
    def module(self) -> GraftModule:
        """The model whose noise is corrected."""
        assert self.trainer is not None
        module = self.trainer.lightning_module
        assert isinstance(module, GraftModule)
        return module

    @property
    def flow(self) -> DeterministicSampler:
        """What is inverted."""
        module = self.module
        return DeterministicSampler(module.process, module.reference_forward, module.solver, module.steps)

    def spread(self, module: GraftModule) -> float:
        """Standard deviation of the noise that is added to the data."""
        if not isinstance(self.asked_spread, str):
            return self.asked_spread
        noise = [float(p.alpha_sigma(1 / module.steps)[1]) for p in gaussian_fields(module.process).values()]
        return min(noise) / math.sqrt(12)

    def check(self, module: GraftModule) -> None:
        """Refuse at once what would fail later.

        Raises:
            GraftError: In one sentence.
        """
        if module.corrector is None:
            raise GraftError("there is nothing to learn: give model.corrector (and --model.level 1)")
        if not module.process.invertible:
            raise GraftError(
                "the samples of model.process are not decided by their noise, so they cannot be carried back to it: "
                f"{type(module.process).__name__} {module.process.why_not_invertible}"
            )
        for name, part in gaussian_fields(module.process).items():
            if part.prediction_type in ("x0", "logits"):
                raise GraftError(
                    f"the last step of a flow that predicts {part.prediction_type} keeps nothing of "
                    f"{name or 'its state'}, so it cannot be inverted: correction needs eps, v or velocity"
                )

    def prepare_data(self) -> None:
        """As the source has it."""
        self.source.prepare_data()

    def setup(self, stage: str) -> None:
        """Read the data."""
        if stage == "fit":
            self.check(self.module)
            assert self.trainer is not None
            local_batch_size(self.trainer, self.train_batch_size)
            self.source.setup("fit")
        if self.reward is not None and stage != "predict":
            self.reward.setup()

    @property
    def chosen(self) -> Samples:
        """Which of the source's samples are inverted, and which the distances are to."""
        if self._samples is None:
            encode, most = self.module.encode, 2 * self.test_draws
            self._samples = Samples(
                self.source, encode, self.samples, self.test_share, most, self.batch_size, self.seed
            )
        return self._samples

    @property
    def real(self) -> tuple[State, Condition]:
        """(state, condition) of the samples that are inverted, one pass, before any noise is added to them."""
        if self._real is None:
            self._real = self.chosen.training()
        return self._real

    @property
    def held_out(self) -> tuple[State, Condition]:
        """(state, condition) of the samples that the distances are to; the corrector never sees them."""
        if self._held_out is None:
            self._held_out = self.chosen.held_out()
        return self._held_out

    def train_dataloader(self) -> "DataLoader[Any] | list[Any]":
        """Have the noise, and serve it."""
        assert self.trainer is not None
        if getattr(self.trainer, "reload_dataloaders_every_n_epochs", 1) != 1:
            raise GraftError("each epoch has an order of its own: use Trainer(reload_dataloaders_every_n_epochs=1)")
        done = interruption.completed_batches(self.trainer)
        if self.recovered is None:
            with self.trainer.precision_plugin.tensor_init_context():  # that of what is drawn
                self.recover()
        epoch = self.trainer.current_epoch
        if epoch == self.trainer.max_epochs:  # resumed after the last one
            return []
        examples = self.examples()
        corrector = self.module.corrector
        assert corrector is not None
        if not done:
            corrector.fit([examples])
        return training_dataloader(
            [examples], self.trainer, self.train_batch_size, self.steps_per_epoch, self.seed, done
        )

    def val_dataloader(self) -> "DataLoader[Any] | list[Any]":
        """The noise that is held out."""
        assert self.trainer is not None
        if self.recovered is None:
            with self.trainer.precision_plugin.tensor_init_context():  # that of what is drawn
                self.recover()
        examples = self.examples(held_out=True)
        count = size(examples.condition) if examples.condition else 0
        if not count:
            return []
        data = RoundDataset([examples], count, self.seed, "held out")
        every: DistributedSampler[Any] = DistributedSampler(data, 1, 0, shuffle=False)  # on each process all of it
        return DataLoader(data, self.batch_size, sampler=every, collate_fn=identity_collate)

    def test_dataloader(self) -> "list[DataLoader[Any]]":
        """Requests for draws of the reference and of the corrected model, with the same conditions."""
        each = [SampleRequests(self.module, self.test_draws, self.batch_size, ("test",), weights) for weights in WHOSE]
        return [DataLoader(requests, batch_size=None) for requests in each]

    def examples(self, held_out: bool = False) -> TrainingBatch:
        """The noise that is learned from, or what is held out of it: of other samples."""
        assert self.recovered is not None
        chunk = self.recovered
        good = passes_round_trip(chunk, self.max_round_trip_error)
        items = int(chunk.item.max()) + 1
        order = torch.randperm(items, generator=seeding.make_generator(self.seed, "validation"))
        apart = torch.isin(chunk.item, order[: math.floor(self.val_fraction * items)])
        rows = (good & (apart if held_out else ~apart)).nonzero()[:, 0]
        condition = take(chunk.condition, rows)
        assert isinstance(condition, dict)
        return TrainingBatch(take(chunk.inverted.noise, rows), condition)

    def recover(self) -> None:
        """Invert what is not on disk yet.

        Raises:
            GraftError: Too many samples were lost.
        """
        assert self.trainer is not None and self.run_dir is not None
        if (asked := interruption.find_interruption(self.trainer)) is not None:
            asked.install_handlers()
        folder = self.run_dir / "recovered"
        chunks: list[InvertedChunk] = []
        done = lost = 0
        total = self.num_dequantizations * size(self.real[1])
        with tqdm(
            total=total,
            desc="inverting",
            disable=self.trainer.progress_bar_callback is None or not self.trainer.is_global_zero,
        ) as bar:
            for number in range(self.num_dequantizations):
                state, condition = self.chosen.training(number) if number else self.real
                for start in range(0, size(condition), self.batch_size):
                    rows = torch.arange(start, min(start + self.batch_size, size(condition)))
                    chunk = self._chunk(folder, number, rows, state, condition)
                    chunks.append(chunk)
                    done += len(rows)
                    lost += int((~passes_round_trip(chunk, self.max_round_trip_error)).sum())
                    bar.update(len(rows))
                    if lost > self.max_invalid_fraction * total:
                        sofar = concatenate(chunks)
                        raise GraftError(
                            too_many_lost_message(
                                sofar, self.max_round_trip_error, self.max_invalid_fraction, self.module.steps
                            )
                            + ("" if done == total else f"; {total - done} more were not tried")
                        )
        self.recovered = concatenate(chunks)
        self.certificate = self._known(folder) if self.num_certificate_draws else None

    def _chunk(self, folder: Path, number: int, rows: Tensor, state: State, condition: Condition) -> InvertedChunk:
        """From disk, or inverted now; by one process, for the others to read."""
        assert self.trainer is not None
        path = folder / f"chunk_{number:03d}_{int(rows[0]) // self.batch_size:05d}.safetensors"
        data, given = take(state, rows), take(condition, rows)
        assert isinstance(given, dict)
        generator = seeding.make_generator(self.seed, "dequantise", number, int(rows[0]))
        if spread := self.spread(self.module):
            noise = self.module.process.noise(data, given, generator)
            data = apply(lambda x, z: x + spread * z, data, noise)
        origin = self._origin(files.hash_tensors(_flat(data) | {f"condition/{n}": f for n, f in given.items()}))
        self._stop()
        if not path.exists() and self.trainer.is_global_zero:
            moved, placed = self.placed((data, given))
            with self.module.eval_weights("reference"):
                found = invert(self.flow, moved, placed, self.fixed_point_solver, generator)
            InvertedChunk(data, given, rows, _here(found), torch.zeros(0)).write(path, origin)
        self.trainer.strategy.barrier()
        return InvertedChunk.read(path, origin)

    def _known(self, folder: Path) -> InvertedChunk:
        """The certificate, from disk or made now."""
        assert self.trainer is not None
        path = folder / "known.safetensors"
        self._stop()
        origin = self._origin("known") | {"draws": self.num_certificate_draws}
        if not path.exists() and self.trainer.is_global_zero:
            parts = []
            for start in range(0, self.num_certificate_draws, self.batch_size):
                generator = seeding.make_generator(self.seed, "known", start)
                condition = self.module.sample_conditions(
                    min(self.batch_size, self.num_certificate_draws - start), generator
                )
                with self.module.eval_weights("reference"):
                    error, found = recovery_error(self.flow, self.placed(condition), self.fixed_point_solver, generator)
                rows = torch.arange(start, start + size(condition))
                found = _here(found)
                parts.append(InvertedChunk(found.noise, condition, rows, found, error.cpu()))
            concatenate(parts).write(path, origin)
        self.trainer.strategy.barrier()
        return InvertedChunk.read(path, origin)

    def _stop(self) -> None:
        """End where a signal asks any process to: the chunks so far are on disk."""
        if (asked := interruption.find_interruption(self.trainer)) is not None:
            asked.stop(self.trainer, "while inverting the data")

    def placed(self, batch: Any) -> Any:
        """A batch in the trainer's precision, on its device."""
        assert self.trainer is not None
        return self.trainer.strategy.batch_to_device(self.trainer.precision_plugin.convert_input(batch))

    def _origin(self, data: str) -> dict[str, Any]:
        module = self.module
        return {
            "version": VERSION,
            "reference": (module.reference_file or {}).get("sha256"),
            "process": fingerprint_hash(module.process),
            "solver": fingerprint_hash(module.solver),
            "steps": module.steps,
            "method": fingerprint_hash(self.fixed_point_solver),
            "data": data,
            "seed": self.seed,
        }


def _here(found: InversionResult) -> InversionResult:
    """On the processor."""
    moved = {name: value.cpu() for name, value in vars(found).items() if isinstance(value, Tensor)}
    return InversionResult(**{**vars(found), **moved, "noise": apply(lambda x: x.cpu(), found.noise)})


def _flat(state: State) -> dict[str, Tensor]:
    return {"state": state} if isinstance(state, Tensor) else {f"state/{n}": f for n, f in state.items()}
