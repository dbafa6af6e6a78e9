"""Inversion of a frozen flow on data, a chunk at a time; finished chunks are on disk, so that a run can resume."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from graft.commands.correct.invert import DeterministicSampler, InversionResult, invert, recovery_error
from graft.commands.correct.inverted_chunk import InvertedChunk, concatenate, passes_round_trip, too_many_lost_message
from graft.core import seeding
from graft.core.precision import exact_float32
from graft.core.progress import progress
from graft.core.state import Condition, State, apply, flatten, size, take
from graft.errors import GraftError
from graft.io.checksum import checksum
from graft.io.fingerprint import fingerprint_hash
from graft.module import GraftModule
from graft.network.corrector import gaussian_fields
from graft.runs import interruption
from graft.solvers.fixed_point import FixedPointSolver

VERSION = 3
"""Version of the files of inverted samples; from 2 on they hold the network calls of the inversion."""


@dataclass(frozen=True)
class InversionSettings:
    """Settings of the inversion; `graft.commands.correct.InvertedNoiseData` describes each.

    Attributes:
        num_dequantizations: Number of dequantisations of each sample.
        dequantize_std: Standard deviation of the noise that is added to the data, in the state's unit.
        fixed_point_solver: Solver of a sampler step.
        max_round_trip_error: Largest root mean square distance between a sample and its round trip.
        max_invalid_fraction: Largest share of invalid samples.
        num_certificate_draws: Number of samples of known noise.
        batch_size: Number of samples in a chunk.
        seed: Seed of the dequantisation and of the known noise.
    """

    num_dequantizations: int
    dequantize_std: float
    fixed_point_solver: FixedPointSolver
    max_round_trip_error: float
    max_invalid_fraction: float
    num_certificate_draws: int
    batch_size: int
    seed: int


def check_invertible(module: GraftModule) -> None:
    """Raise GraftError if the model has no corrector, or its flow cannot be inverted."""
    if module.policy.corrector is None:
        raise GraftError("model.corrector is null; graft correct trains it. Give model.corrector.")
    if not module.policy.process.invertible:
        raise GraftError(
            "the samples of model.process are not a function of their noise, so that they cannot be inverted: "
            f"{type(module.policy.process).__name__} {module.policy.process.why_not_invertible}"
        )
    for name, part in gaussian_fields(module.policy.process).items():
        if part.prediction_type in ("x0", "logits"):
            raise GraftError(
                f"the prediction_type of {name or 'the process'} is {part.prediction_type}; it must be eps, v or "
                "velocity, since the last step of another flow keeps nothing of the state and cannot be inverted"
            )


def last_step_std(module: GraftModule) -> float:
    """Return the standard deviation for ``dequantize_std: auto``, in the state's unit.

    It is that of a uniform number as wide as the noise of the last step.
    """
    noise = [float(p.alpha_sigma(1 / module.policy.steps)[1]) for p in gaussian_fields(module.policy.process).values()]
    return min(noise) / math.sqrt(12)


def to_device(trainer: Trainer, batch: Any) -> Any:
    """Return a batch in the trainer's precision, on its device."""
    return trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))


class Inverter:
    """Inverts the frozen flow of a model.

    Rank 0 inverts a chunk, and all ranks read it from disk.

    Args:
        module: The model.
        trainer: Trainer with its strategy set up.
        settings: Settings of the inversion.
        folder: Folder of the chunks.
    """

    def __init__(self, module: GraftModule, trainer: Trainer, settings: InversionSettings, folder: Path) -> None:
        self.module, self.trainer, self.settings, self.folder = module, trainer, settings, folder
        self.flow = DeterministicSampler(
            module.policy.process, module.policy.reference_forward, module.policy.solver, module.policy.steps
        )

    def invert_data(self, samples: "Callable[[int], tuple[State, Condition]]") -> InvertedChunk:
        """Return all inverted samples; a chunk that is on disk is read.

        Args:
            samples: Function that returns (state, condition) of all samples in a pass over the data, by the number of
                the pass.

        Raises:
            GraftError: The share of samples that cannot be inverted is too large.
        """
        settings = self.settings
        if (found := interruption.find_interruption(self.trainer)) is not None:
            found.install_handlers()
        chunks: list[InvertedChunk] = []
        done = invalid = 0
        total = settings.num_dequantizations * size(samples(0)[1])
        quiet = self.trainer.progress_bar_callback is None or not self.trainer.is_global_zero
        with progress("inversion", total, "sample", quiet) as bar:
            for number in range(settings.num_dequantizations):
                state, condition = samples(number)
                for start in range(0, size(condition), settings.batch_size):
                    rows = torch.arange(start, min(start + settings.batch_size, size(condition)))
                    chunk = self._chunk(number, rows, state, condition)
                    chunks.append(chunk)
                    done += len(rows)
                    invalid += int((~passes_round_trip(chunk, settings.max_round_trip_error)).sum())
                    bar.update(len(rows))
                    if invalid > settings.max_invalid_fraction * total:
                        raise GraftError(
                            too_many_lost_message(
                                concatenate(chunks),
                                settings.max_round_trip_error,
                                settings.max_invalid_fraction,
                                self.module.policy.steps,
                            )
                            + ("" if done == total else f" {total - done} more samples were not tried.")
                        )
        return concatenate(chunks)

    def invert_known(self) -> InvertedChunk:
        """Return inverted samples of known noise, the certificate; from disk if they are there."""
        settings = self.settings
        path = self.folder / "known.safetensors"
        self._stop_if_interrupted()
        origin = self._origin("known") | {"draws": settings.num_certificate_draws}
        if not path.exists() and self.trainer.is_global_zero:
            parts = []
            for start in range(0, settings.num_certificate_draws, settings.batch_size):
                generator = seeding.make_generator(settings.seed, "known", start)
                condition = self.module.sample_conditions(
                    min(settings.batch_size, settings.num_certificate_draws - start), generator
                )
                with exact_float32(), self.module.policy.eval_weights("reference"):
                    error, found = recovery_error(
                        self.flow, to_device(self.trainer, condition), settings.fixed_point_solver, generator
                    )
                rows = torch.arange(start, start + size(condition))
                found = _to_cpu(found)
                parts.append(InvertedChunk(found.noise, condition, rows, found, error.cpu()))
            concatenate(parts).write(path, origin)
        self.trainer.strategy.barrier()
        return InvertedChunk.read(path, origin)

    def _chunk(self, number: int, rows: Tensor, state: State, condition: Condition) -> InvertedChunk:
        """Return a chunk of a pass from disk; rank 0 inverts it first if it is not there."""
        settings = self.settings
        path = self.folder / f"chunk_{number:03d}_{int(rows[0]) // settings.batch_size:05d}.safetensors"
        data, given = take(state, rows), take(condition, rows)
        generator = seeding.make_generator(settings.seed, "dequantise", number, int(rows[0]))
        if std := settings.dequantize_std:
            noise = self.module.policy.process.noise(data, given, generator)
            data = apply(lambda x, z: x + std * z, data, noise)
        origin = self._origin(checksum(flatten(data, "state") | flatten(given, "condition")))
        self._stop_if_interrupted()
        if not path.exists() and self.trainer.is_global_zero:
            moved, moved_condition = to_device(self.trainer, (data, given))
            with exact_float32(), self.module.policy.eval_weights("reference"):
                found = invert(self.flow, moved, moved_condition, settings.fixed_point_solver, generator)
            InvertedChunk(data, given, rows, _to_cpu(found), torch.zeros(0)).write(path, origin)
        self.trainer.strategy.barrier()
        return InvertedChunk.read(path, origin)

    def _stop_if_interrupted(self) -> None:
        """End the run if a rank received a signal; the chunks so far are on disk."""
        if (found := interruption.find_interruption(self.trainer)) is not None:
            found.stop(self.trainer, "while inverting the data")

    def _origin(self, data: str) -> dict[str, Any]:
        """Return the settings and checksums that a chunk depends on.

        ``data`` is the checksum of the samples.
        """
        module = self.module
        return {
            "version": VERSION,
            "reference": (module.policy.reference_file or {}).get("sha256"),
            "process": fingerprint_hash(module.policy.process),
            "solver": fingerprint_hash(module.policy.solver),
            "steps": module.policy.steps,
            "method": fingerprint_hash(self.settings.fixed_point_solver),
            "data": data,
            "seed": self.settings.seed,
        }


def _to_cpu(found: InversionResult) -> InversionResult:
    moved = {name: value.cpu() for name, value in vars(found).items() if isinstance(value, Tensor)}
    return InversionResult(**{**vars(found), **moved, "noise": apply(lambda x: x.cpu(), found.noise)})
