"""For plain diffusers: the adapter is on above the hand-over level, and off below it.

This file needs nothing but diffusers, and is copied beside every exported adapter.
"""

from collections.abc import Callable
from typing import Any


def handover(level: float, reference: Any = None) -> Callable[..., dict[str, Any]]:
    """A ``callback_on_step_end`` for a pipeline: the tuned network samples from 1 to ``level``, the reference finishes.

    Args:
        level: u*, a fraction of the sampler's steps. At 0 nothing is switched.
        reference: The frozen UNet or transformer, where the whole network was tuned; None for a LoRA adapter.
    """
    part, tuned = "unet", None

    def step_end(pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        nonlocal part, tuned
        steps = pipe.num_timesteps
        if level > 0 and step + 1 == steps - round(level * steps):
            if reference is None:
                pipe.disable_lora()
            else:
                part = "unet" if hasattr(pipe, "unet") else "transformer"
                tuned = getattr(pipe, part)
                setattr(pipe, part, reference)
        if level > 0 and step + 1 == steps:  # as it was, for the next call
            if reference is None:
                pipe.enable_lora()
            else:
                setattr(pipe, part, tuned)
        return {}

    return step_end
