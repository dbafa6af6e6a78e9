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
from graft.batches import Examples, Weights
from graft.batches.requests import Requests
from graft.batches.served import Served, local, same, served
from graft.correct.recovered import Chunk, joined, kept, refusal
from graft.correct.samples import Samples
from graft.corrector import fields
from graft.errors import GraftError
from graft.identity import digest
from graft.inversion import Anderson, Method
from graft.inversion.flow import Flow, Inverted, invert, recovery
from graft.module import GraftModule
from graft.reward import Function, Reward
from graft.runs import interruption
from graft.state import Condition, State, apply, size, take

VERSION = 2
"""Of the files of recovered noise; from 2 on they hold the network calls that it took."""

WHOSE: tuple[Weights, Weights] = ("reference", "tuned")


class RecoveredNoise(LightningDataModule):
    """Inverts the model's frozen flow on a domain's data, keeps the noise on disk and serves it to the corrector.

    Needs ``Trainer(reload_dataloaders_every_n_epochs=1)``: an epoch is ``steps_per_epoch`` batches in a fresh order.

    Args:
        source: The domain's data, as `graft pretrain` takes it.
        samples: At most so many of its samples are inverted, drawn with ``seed``; ``null``: all that are not held out.
        passes: How often each is dequantised afresh and inverted.
        dequantise: Standard deviation of the Gaussian noise that is added to the data first, in the state's unit;
            ``auto``: that of a uniform number as wide as the noise of the last step. Data on a grid, or thinner than
            the last step, have no noise of their own.
        method: That solves a step; `graft.inversion.Anderson` if ``null``.
        round_trip: Largest root mean square distance between a sample and what the flow makes of its noise, in the
            state's unit; samples that come back further away are left out.
        most_left_out: Share of left-out samples above which nothing is learned: without them it is another law.
        known: Draws whose known noise is recovered, for the certificate; 0: none.
        batch_size: Samples in a chunk, inverted at a time.
        train_batch_size: Samples in an optimizer step.
        steps_per_epoch: Optimizer steps in an epoch.
        validation: Share of the samples whose noise is held out, for the validation loss.
        reward: Scores the draws of the final comparison, and says how samples that are left out differ; ``null``: none.
        test_draws: Draws of the reference and of the corrected model that are judged and written.
        test_share: Share of the source's samples that is held out, drawn with ``seed``: neither the corrector nor the
            flow that is trained longer sees them, the distances are to one half of them, and the other half gives the
            floor. At most twice ``test_draws`` are. The frozen flow itself was trained on whatever it was trained on.
        repeats: Independent sets of draws, and of halves of the held-out samples, behind each distance.
        compared: Numbers of steps of the flow alone, in the table of distance against cost.
        warps: Spreads of these steps, t = u^warp, that are tried besides the model's own: the flow alone may be better
            with another one than that in which it can be inverted.
        longer: Train a copy of the flow on the same data for what the inversion and the corrector cost, to compare.
        longer_learning_rate: Of that.
        run_dir: Folder of the run, in which ``recovered/`` is kept.
        seed: Of the split, the dequantisation and the order of training; linked to ``--seed_everything``.
    """

    def __init__(
        self,
        source: LightningDataModule,
        samples: "int | None" = None,
        passes: int = 1,
        dequantise: 'float | Literal["auto"]' = 0.0,
        method: "Method | None" = None,
        round_trip: float = 0.01,
        most_left_out: float = 0.1,
        known: int = 256,
        batch_size: int = 128,
        train_batch_size: int = 128,
        steps_per_epoch: int = 500,
        validation: float = 0.05,
        reward: "Reward | str | None" = None,
        test_draws: int = 2000,
        test_share: float = 0.5,
        repeats: int = 3,
        compared: "list[int] | None" = None,
        warps: "list[float] | None" = None,
        longer: bool = True,
        longer_learning_rate: float = 5e-4,
        run_dir: "str | None" = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("samples", 2 if samples is None else samples, 2),
            ("passes", passes, 1),
            ("known", known, 0),
            ("batch_size", batch_size, 1),
            ("train_batch_size", train_batch_size, 1),
            ("steps_per_epoch", steps_per_epoch, 1),
            ("test_draws", test_draws, 2),
            ("repeats", repeats, 1),
            *(("compared", steps, 1) for steps in compared or ()),
        ):
            if value < least:
                raise GraftError(f"data.{name} is {value}, but it must be at least {least}")
        for name, share in (("validation", validation), ("most_left_out", most_left_out)):
            if not 0 <= share < 1:
                raise GraftError(f"data.{name} is {share:g}, but it is a share in [0, 1)")
        if not 0 < test_share < 1:
            raise GraftError(
                f"data.test_share is {test_share:g}; it must be between 0 and 1, since some samples are inverted and "
                "others judge"
            )
        if (dequantise != "auto") if isinstance(dequantise, str) else not dequantise >= 0:
            raise GraftError(f"data.dequantise is {dequantise!r}, but it is a standard deviation, or 'auto'")
        self.source, self.samples, self.passes, self.asked_spread = source, samples, passes, dequantise
        self.method = method if method is not None else Anderson()
        self.round_trip, self.most_left_out, self.known = round_trip, most_left_out, known
        self.batch_size, self.train_batch_size, self.steps_per_epoch = batch_size, train_batch_size, steps_per_epoch
        self.validation, self.test_draws, self.test_share = validation, test_draws, test_share
        self.repeats = repeats
        self.reward = Function(reward) if isinstance(reward, str) else reward
        self.compared = compared if compared is not None else [1, 2, 4, 8, 16, 32]
        self.warps = warps if warps is not None else [1.0]
        if any(not warp > 0 for warp in self.warps):
            raise GraftError(f"data.warps is {self.warps}, but t = u^warp needs warps above 0")
        self.longer, self.longer_learning_rate = longer, longer_learning_rate
        self.run_dir = Path(run_dir) if run_dir is not None else None
        self.seed = seed
        self.recovered: Chunk | None = None
        """All that was inverted; known as soon as training has begun."""
        self.certificate: Chunk | None = None
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
    def flow(self) -> Flow:
        """What is inverted."""
        module = self.module
        return Flow(module.process, module.reference_model, module.solver, module.steps)

    def spread(self, module: GraftModule) -> float:
        """Standard deviation of the noise that is added to the data."""
        if not isinstance(self.asked_spread, str):
            return self.asked_spread
        noise = [float(p.alpha_sigma(1 / module.steps)[1]) for p in fields(module.process).values()]
        return min(noise) / math.sqrt(12)

    def check(self, module: GraftModule) -> None:
        """Refuse at once what would fail later.

        Raises:
            GraftError: In one sentence.
        """
        if module.corrector is None:
            raise GraftError("there is nothing to learn: give model.corrector (and --model.level 1)")
        if not module.process.reversible:
            raise GraftError(
                "the samples of model.process are not decided by their noise, so they cannot be carried back to it: "
                f"{type(module.process).__name__} {module.process.obstacle}"
            )
        for name, part in fields(module.process).items():
            if part.prediction in ("x0", "logits"):
                raise GraftError(
                    f"the last step of a flow that predicts {part.prediction} keeps nothing of "
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
            local(self.trainer, self.train_batch_size)
            self.source.setup("fit")
        if self.reward is not None and stage != "predict":
            self.reward.open()

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
        done = interruption.done(self.trainer)
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
        return served([examples], self.trainer, self.train_batch_size, self.steps_per_epoch, self.seed, done)

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
        data = Served([examples], count, self.seed, "held out")
        every: DistributedSampler[Any] = DistributedSampler(data, 1, 0, shuffle=False)  # on each process all of it
        return DataLoader(data, self.batch_size, sampler=every, collate_fn=same)

    def test_dataloader(self) -> "list[DataLoader[Any]]":
        """Requests for draws of the reference and of the corrected model, with the same conditions."""
        each = [Requests(self.module, self.test_draws, self.batch_size, ("test",), weights) for weights in WHOSE]
        return [DataLoader(requests, batch_size=None) for requests in each]

    def examples(self, held_out: bool = False) -> Examples:
        """The noise that is learned from, or what is held out of it: of other samples."""
        assert self.recovered is not None
        chunk = self.recovered
        good = kept(chunk, self.round_trip)
        items = int(chunk.item.max()) + 1
        order = torch.randperm(items, generator=seeding.generator(self.seed, "validation"))
        apart = torch.isin(chunk.item, order[: math.floor(self.validation * items)])
        rows = (good & (apart if held_out else ~apart)).nonzero()[:, 0]
        condition = take(chunk.condition, rows)
        assert isinstance(condition, dict)
        return Examples(take(chunk.inverted.noise, rows), condition)

    def recover(self) -> None:
        """Invert what is not on disk yet.

        Raises:
            GraftError: Too many samples were lost.
        """
        assert self.trainer is not None and self.run_dir is not None
        if (asked := interruption.of(self.trainer)) is not None:
            asked.listen()
        folder = self.run_dir / "recovered"
        chunks: list[Chunk] = []
        done = lost = 0
        total = self.passes * size(self.real[1])
        with tqdm(
            total=total,
            desc="inverting",
            disable=self.trainer.progress_bar_callback is None or not self.trainer.is_global_zero,
        ) as bar:
            for number in range(self.passes):
                state, condition = self.chosen.training(number) if number else self.real
                for start in range(0, size(condition), self.batch_size):
                    rows = torch.arange(start, min(start + self.batch_size, size(condition)))
                    chunk = self._chunk(folder, number, rows, state, condition)
                    chunks.append(chunk)
                    done += len(rows)
                    lost += int((~kept(chunk, self.round_trip)).sum())
                    bar.update(len(rows))
                    if lost > self.most_left_out * total:
                        sofar = joined(chunks)
                        raise GraftError(
                            refusal(sofar, self.round_trip, self.most_left_out, self.module.steps)
                            + ("" if done == total else f"; {total - done} more were not tried")
                        )
        self.recovered = joined(chunks)
        self.certificate = self._known(folder) if self.known else None

    def _chunk(self, folder: Path, number: int, rows: Tensor, state: State, condition: Condition) -> Chunk:
        """From disk, or inverted now; by one process, for the others to read."""
        assert self.trainer is not None
        path = folder / f"chunk_{number:03d}_{int(rows[0]) // self.batch_size:05d}.safetensors"
        data, given = take(state, rows), take(condition, rows)
        assert isinstance(given, dict)
        generator = seeding.generator(self.seed, "dequantise", number, int(rows[0]))
        if spread := self.spread(self.module):
            noise = self.module.process.noise(data, given, generator)
            data = apply(lambda x, z: x + spread * z, data, noise)
        origin = self._origin(files.in_memory(_flat(data) | {f"condition/{n}": f for n, f in given.items()}))
        self._stop()
        if not path.exists() and self.trainer.is_global_zero:
            moved, placed = self.placed((data, given))
            with self.module.sampling("reference"):
                found = invert(self.flow, moved, placed, self.method, generator)
            Chunk(data, given, rows, _here(found), torch.zeros(0)).write(path, origin)
        self.trainer.strategy.barrier()
        return Chunk.read(path, origin)

    def _known(self, folder: Path) -> Chunk:
        """The certificate, from disk or made now."""
        assert self.trainer is not None
        path = folder / "known.safetensors"
        self._stop()
        origin = self._origin("known") | {"draws": self.known}
        if not path.exists() and self.trainer.is_global_zero:
            parts = []
            for start in range(0, self.known, self.batch_size):
                generator = seeding.generator(self.seed, "known", start)
                condition = self.module.draw_conditions(min(self.batch_size, self.known - start), generator)
                with self.module.sampling("reference"):
                    error, found = recovery(self.flow, self.placed(condition), self.method, generator)
                rows = torch.arange(start, start + size(condition))
                found = _here(found)
                parts.append(Chunk(found.noise, condition, rows, found, error.cpu()))
            joined(parts).write(path, origin)
        self.trainer.strategy.barrier()
        return Chunk.read(path, origin)

    def _stop(self) -> None:
        """End where a signal asks any process to: the chunks so far are on disk."""
        if (asked := interruption.of(self.trainer)) is not None:
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
            "process": digest(module.process),
            "solver": digest(module.solver),
            "steps": module.steps,
            "method": digest(self.method),
            "data": data,
            "seed": self.seed,
        }


def _here(found: Inverted) -> Inverted:
    """On the processor."""
    moved = {name: value.cpu() for name, value in vars(found).items() if isinstance(value, Tensor)}
    return Inverted(**{**vars(found), **moved, "noise": apply(lambda x: x.cpu(), found.noise)})


def _flat(state: State) -> dict[str, Tensor]:
    return {"state": state} if isinstance(state, Tensor) else {f"state/{n}": f for n, f in state.items()}
