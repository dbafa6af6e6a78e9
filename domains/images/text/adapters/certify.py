"""Compare graft's sampler with the pipeline's own call: two steps of each, with the same noise."""

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Generator, Tensor

from domains.images.text.adapters.base import PromptedNetwork, PromptSettings
from domains.images.text.adapters.recording import Recording
from graft.errors import GraftError
from graft.sampler import Stage, run_stages

if TYPE_CHECKING:
    from domains.images.text.pipeline import Pipeline

STEPS = 2


class Runs(Protocol):
    """An adapter that runs the pipeline's own call."""

    @property
    def rounding(self) -> float:
        """Return the relative difference that rounding explains."""

    def run(
        self, settings: PromptSettings, prompt: "str | list[str]", count: int, seed: int = 0, **how: Any
    ) -> Recording:
        """Return the recording of the pipeline's own call."""

    def denoiser(self, pipeline: "Pipeline", settings: PromptSettings) -> PromptedNetwork:
        """Return the network that graft tunes."""


def certify(adapter: Runs, pipeline: "Pipeline", settings: PromptSettings, device: torch.device) -> None:
    """Raise GraftError if graft's samples differ from the pipeline's own by more than rounding.

    Args:
        adapter: Adapter of the pipeline.
        pipeline: Pipeline on the device.
        settings: Prompts, guidance and size of the pictures.
        device: Device of the comparison.
    """
    chosen = [0, len(settings.prompts) - 1]
    process = pipeline.process(STEPS, settings, 0.0, settings.guidance.on)
    network = adapter.denoiser(pipeline, settings)
    starts, ends = [], []
    for seed, index in enumerate(chosen):
        steps = adapter.run(settings, settings.prompts[index], STEPS, seed).steps
        assert steps[0].sample is not None and steps[-1].after is not None
        starts.append(steps[0].sample.float())
        ends.append(steps[-1].after.float())
        condition = {"prompt": torch.tensor([index], device=device)}
        ours = process.prior(condition, Generator().manual_seed(seed))
        _require(ours, starts[-1], "the first latents of the same generator", 1e-2 if adapter.rounding > 1e-3 else 1e-6)
    condition = {"prompt": torch.tensor(chosen, device=device)}
    start, end = torch.cat(starts), torch.cat(ends)
    found = run_stages([Stage(process, network)], condition, STEPS, state=start).state
    assert isinstance(found, Tensor)
    _require(found, end, f"the latents after {STEPS} steps", adapter.rounding)
    with torch.no_grad():  # training has another time for each sample
        times = torch.stack([process.timestep(level).float() for level in (0.5, 1.0)]).to(device)
        both = network(start, times, condition)
        alone = [
            network(start[i : i + 1], times[i : i + 1], {"prompt": condition["prompt"][i : i + 1]}) for i in range(2)
        ]
    _require(both, torch.cat(alone), "the denoiser's outputs for samples at different times", adapter.rounding)


def _require(found: Tensor, expected: Tensor, what: str, rounding: float) -> None:
    """Raise GraftError if two tensors differ."""
    if found.shape != expected.shape:
        raise GraftError(f"{what} have the shape {tuple(found.shape)}, and its own have {tuple(expected.shape)}")
    off = float((found - expected).norm()) / max(float(expected.norm()), 1e-30)
    if not off <= rounding:
        raise GraftError(f"{what} differ from its own by {off:.1e} of their size")
