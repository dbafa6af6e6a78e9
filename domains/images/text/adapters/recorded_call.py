"""How a pipeline calls its denoiser in a step, learned from recordings of the pipeline's own call."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from domains.images.text.adapters import guided, replay
from domains.images.text.adapters.recording import Recording, first_of
from graft.errors import GraftError

Arguments = list[dict[str, Any]]
"""Arguments of the denoiser's calls in a step for one prompt, without the latents and the time."""


@dataclass
class RecordedCall:
    """The calls of the denoiser in a step, as functions of the latents, the time and the prompt.

    Attributes:
        templates: Arguments of each call by name.
        copies: Number of copies of the latents in each call; a copy is a branch of the guidance.
        shape: Shape of a latent.
        dtype: Type of the latents.
        outputs: Recorded output of each call, which stands in for the network's if only the arguments are wanted.
    """

    templates: list[dict[str, Any]]
    copies: list[int]
    shape: tuple[int, ...]
    dtype: torch.dtype
    outputs: list[Any]

    def branches_and_output(self, recording: Recording) -> "list[tuple[list[Tensor], Tensor]]":
        """Return the outputs of the branches and the output of the step, for each step of a recording."""
        return [
            (
                [
                    branch
                    for call, copies in zip(step.calls, self.copies, strict=True)
                    for branch in guided.branches_of(call.output, copies, self.shape)
                ],
                recorded(step.output),
            )
            for step in recording.steps
        ]

    def arguments(self, recording: Recording) -> Arguments:
        """Return the arguments of the first step of a recording, without the latents and the time."""
        return [
            {name: replay.pruned(node, call.given[name]) for name, node in each.items()}
            for each, call in zip(self.templates, recording.steps[0].calls, strict=True)
        ]

    def groups(self, rows: list[Arguments]) -> list[list[int]]:
        """Return indices of samples whose arguments can be one batch."""
        found: dict[Any, list[int]] = {}
        for place, row in enumerate(rows):
            key = tuple(
                replay.shapes(node, given[name])
                for each, given in zip(self.templates, row, strict=True)
                for name, node in each.items()
            )
            found.setdefault(key, []).append(place)
        return list(found.values())

    def branches(
        self, network: nn.Module, rows: list[Arguments], x: Tensor, time: Tensor, only: "int | None" = None
    ) -> list[Tensor]:
        """Return the outputs of the branches for a batch, (B, ...) each.

        Args:
            network: Denoiser.
            rows: Arguments of each sample's prompt.
            x: (B, ...) latents.
            time: (B,) times of the scheduler.
            only: Branch that is wanted; None for all.
        """
        found, before = [], 0
        for place, (each, copies) in enumerate(zip(self.templates, self.copies, strict=True)):
            chosen = [b for b in range(copies) if only is None or before + b == only]
            before += copies
            if not chosen:
                continue
            given = {
                name: replay.fill(node, [row[place][name] for row in rows], x, time, chosen, copies)
                for name, node in each.items()
            }
            found += guided.branches_of(first_of(network(**given)), len(chosen), self.shape)
        return found


def learn_call(part: str, steps: Recording, batch: Recording) -> RecordedCall:
    """Return how a pipeline calls its denoiser.

    Args:
        part: Name of the denoiser, for messages.
        steps: Recording of a call with one prompt, of at least three steps.
        batch: Recording of the first step of a call with two prompts.

    Raises:
        GraftError: The arguments are no function of the latents, the time and the prompt.
    """
    if not steps.steps or any(not step.calls for step in steps.steps):
        raise GraftError(f"its call does not reach its {part} and its scheduler in each step")
    count = len(steps.steps[0].calls)
    if any(len(step.calls) != count for step in steps.steps):
        raise GraftError("the number of calls of its denoiser changes from step to step")
    samples, times = [recorded(step.sample) for step in steps.steps], [step.time for step in steps.steps]
    if len(samples[0]) != 1 or len(recorded(batch.steps[0].sample)) != 2:
        raise GraftError("its latents have no batch dimension")
    templates = []
    for place in range(count):
        given = [step.calls[place].given for step in steps.steps]
        twice = batch.steps[0].calls[place].given
        templates.append(
            {name: replay.template(name, [g[name] for g in given], twice[name], samples, times) for name in given[0]}
        )
    found = [next(filter(None, map(replay.copies_of, each.values())), None) for each in templates]
    if None in found:
        raise GraftError(f"its {part} is not given the latents as they are, but changed or with others")
    if not any(isinstance(node, replay.Time) for each in templates for node in each.values()):
        raise GraftError("its denoiser is not given the time, or not as a linear function of the scheduler's")
    copies = [each for each in found if each is not None]
    outputs = [call.output for call in steps.steps[0].calls]
    return RecordedCall(templates, copies, tuple(samples[0].shape[1:]), samples[0].dtype, outputs)


def recorded(tensor: "Tensor | None") -> Tensor:
    """Return a tensor of a recorded step, which has one."""
    assert tensor is not None
    return tensor
