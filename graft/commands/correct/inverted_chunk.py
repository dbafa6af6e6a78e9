"""Inverted samples on disk, a chunk at a time, and the summary of the inversion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft.commands.correct.invert import InversionResult, StepStatistics
from graft.core.state import Condition, State, cat, flatten, flatten_state, unflatten
from graft.errors import GraftError
from graft.io.tensors import read_tensors, write_tensors


@dataclass
class InvertedChunk:
    """Samples with their conditions and the result of their inversion.

    Attributes:
        data: (B, ...) samples as they were inverted.
        condition: Condition of each sample.
        item: (B,) number of the sample in the data; several chunks may hold one sample with different dequantisations.
        inverted: Result of the inversion.
        noise_error: (B,) relative error of the recovered noise if the noise was known; else empty.
    """

    data: State
    condition: Condition
    item: Tensor
    inverted: InversionResult
    noise_error: Tensor

    def write(self, path: Path, origin: dict[str, Any]) -> None:
        """Write the chunk as a safetensors file.

        Args:
            path: Path of the file.
            origin: Settings and checksums that the chunk depends on.
        """
        found = self.inverted
        tensors = flatten(self.data, "data") | flatten(self.condition, "condition") | flatten(found.noise, "noise")
        tensors |= {name: getattr(found, name) for name in PER_SAMPLE} | {"item": self.item}
        tensors["noise_error"] = self.noise_error
        about = {"origin": origin, "calls": found.calls, "steps": [vars(step) for step in found.steps]}
        write_tensors(path, tensors, about)

    @classmethod
    def read(cls, path: Path, origin: dict[str, Any]) -> "InvertedChunk":
        """Return the chunk of a file that `write` wrote.

        Args:
            path: Path of the file.
            origin: Settings and checksums that the chunk must depend on.

        Raises:
            GraftError: The file is damaged, or its origin differs.
        """
        tensors, about = read_tensors(path)
        theirs = about.get("origin") or {}
        if theirs != origin:
            differing = [name for name in origin if theirs.get(name) != origin[name]]
            raise GraftError(
                f"{path} was recovered with another {' and '.join(differing) or 'origin'}. Choose another --run_dir, "
                "or remove the folder."
            )
        condition = unflatten(tensors, "condition")
        assert isinstance(condition, dict)
        found = InversionResult(
            unflatten(tensors, "noise"),
            **{name: tensors[name] for name in PER_SAMPLE},
            calls=about["calls"],
            steps=[StepStatistics(**step) for step in about["steps"]],
        )
        return cls(unflatten(tensors, "data"), condition, tensors["item"], found, tensors["noise_error"])


PER_SAMPLE = ("solved", "stopped", "round_trip", "noise_gain", "evaluations")


def concatenate(chunks: Sequence[InvertedChunk]) -> InvertedChunk:
    """Return several chunks as one."""
    steps = [StepStatistics(step.level) for step in chunks[0].inverted.steps]
    for chunk in chunks:
        for step, part in zip(steps, chunk.inverted.steps, strict=True):
            step.reached, step.not_inverted = step.reached + part.reached, step.not_inverted + part.not_inverted
            step.evaluations += part.evaluations
            step.residual = max(step.residual, part.residual)
    each = {name: torch.cat([getattr(chunk.inverted, name) for chunk in chunks]) for name in PER_SAMPLE}
    calls = sum(chunk.inverted.calls for chunk in chunks)
    found = InversionResult(cat([chunk.inverted.noise for chunk in chunks]), **each, calls=calls, steps=steps)
    return InvertedChunk(
        cat([chunk.data for chunk in chunks]),
        cat([chunk.condition for chunk in chunks]),
        torch.cat([chunk.item for chunk in chunks]),
        found,
        torch.cat([chunk.noise_error for chunk in chunks]),
    )


def passes_round_trip(chunk: InvertedChunk, furthest: float) -> Tensor:
    """Return (B,) bool: True for a sample that is inverted.

    Every step was inverted, and the round trip is within ``furthest`` of the sample.
    """
    return chunk.inverted.solved & (chunk.inverted.round_trip <= furthest)


def too_many_lost_message(chunk: InvertedChunk, furthest: float, most: float, steps: int) -> str:
    """Return the message for too many samples that cannot be inverted.

    The message has their number, the step at which most of them fail, and advice.

    Args:
        chunk: Samples so far.
        furthest: Largest round-trip error of a valid sample.
        most: Largest share of invalid samples.
        steps: Number of sampler steps.
    """
    found, count = chunk.inverted, len(chunk.item)
    invalid = int((~passes_round_trip(chunk, furthest)).sum())
    worst = max(found.steps, key=lambda step: step.not_inverted)
    failed, far = int((~found.solved).sum()), int((found.solved & ~(found.round_trip <= furthest)).sum())
    step = f"the step from level {worst.level:.4g} to {worst.level + 1 / steps:.4g}"
    where = [
        *([f"{worst.not_inverted} of {failed} at {step}"] if failed else []),
        *([f"{far} came back more than {furthest:.2g} from the data"] if far else []),
    ]
    return (
        f"{invalid} of {count} samples could not be inverted ({' and '.join(where)}); the share must be at most "
        f"{most:.0%}. Take smaller steps (--model.steps {2 * steps}), another method "
        "(--data.fixed_point_solver Newton), or noise on the data as large as the last step "
        "(--data.dequantize_std auto)."
    )


def summarize_inversion(
    chunk: InvertedChunk, furthest: float, known: "InvertedChunk | None", features: "Tensor | None"
) -> dict[str, Any]:
    """Return the entry ``inversion`` of ``summary.json``.

    Args:
        chunk: All inverted samples.
        furthest: Largest round-trip error of a valid sample.
        known: Inverted samples of known noise; None if there are none.
        features: (B, d) features of the samples; None if the domain has no features.
    """
    found, good = chunk.inverted, passes_round_trip(chunk, furthest)
    return {
        "samples": len(good),
        "kept": int(good.sum()),
        "not_solved": int((~found.solved).sum()),
        "round_trip_too_far": int((found.solved & ~good).sum()),
        "steps": [
            vars(step) | {"residual": step.residual if math.isfinite(step.residual) else None} for step in found.steps
        ],
        "evaluations_per_sample": float(found.evaluations.double().mean()),
        "network_calls_per_sample": found.calls / len(good),
        "round_trip": quantiles(found.round_trip[found.solved]),
        "noise_gain": {
            **quantiles(found.noise_gain[good]),
            "above_30": int((found.noise_gain[good] > 30).sum()),
            "not_known": int(found.noise_gain[good].isnan().sum()),
        },
        "left_out": _invalid_gaps(chunk, good, features),
        "known_noise": None if known is None else _summarize_certificate(known),
    }


def quantiles(values: Tensor) -> dict[str, "float | None"]:
    """Return the median, 95 % quantile and maximum of the finite values.

    Each is None if no value is finite.
    """
    x = values[values.isfinite()].double()
    if not len(x):
        return {"median": None, "q95": None, "max": None}
    return {"median": float(x.median()), "q95": float(x.quantile(0.95)), "max": float(x.max())}


def _summarize_certificate(known: InvertedChunk) -> dict[str, Any]:
    error = known.noise_error
    return {
        "draws": len(error),
        "not_solved": int((~known.inverted.solved).sum()),
        "recovered": float((error < 0.01).double().mean()),  # to within 1 %
        "error": quantiles(error),
    }


def _invalid_gaps(chunk: InvertedChunk, good: Tensor, features: "Tensor | None") -> "dict[str, Any] | None":
    """Return how invalid samples differ from the others in norm and features.

    None if all samples are valid.
    """
    if bool(good.all()):
        return None
    x = flatten_state(chunk.data).double()
    gaps: dict[str, Any] = {"norm": standardized_gap(x.square().mean(1).sqrt(), good)}
    if features is not None and bool(good.any()):
        each = [standardized_gap(column, good) for column in features.double().mT]
        furthest = max(range(len(each)), key=lambda i: abs(each[i]["standard_errors"] or 0.0))
        gaps["features"] = {"number": len(each), "furthest": furthest, **each[furthest]}
    return gaps


def standardized_gap(values: Tensor, good: Tensor) -> dict[str, "float | None"]:
    """Return the mean of valid and of invalid samples, and their gap in standard errors.

    The standard error is that of the gap between two random sets of the same sizes.

    Args:
        values: (B,) value of each sample.
        good: (B,) bool, True for a valid sample.
    """
    a, b = values[good], values[~good]
    left = float(b.mean())
    if len(a) < 2:
        return {"kept": None, "left_out": left, "standard_errors": None}
    error = float(a.std()) * math.sqrt(1 / len(a) + 1 / len(b))
    gap = left - float(a.mean())
    return {"kept": float(a.mean()), "left_out": left, "standard_errors": gap / error if error > 0 else None}
