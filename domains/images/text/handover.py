"""For plain diffusers: the adapter is on above the hand-over level, and off below it.

This file needs only diffusers. graft copies it next to every exported adapter.
"""

from collections.abc import Callable
from typing import Any


def handover(level: float, reference: Any = None) -> Callable[..., dict[str, Any]]:
    """Return a ``callback_on_step_end`` that switches to the reference at ``level``.

    The tuned network samples from 1 to ``level``, the reference from there to 0.

    Args:
        level: u*, a fraction of the sampler's steps. At 0 nothing is switched.
        reference: Frozen UNet or transformer if the whole network was tuned; None for a LoRA adapter.
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
        if level > 0 and step + 1 == steps:  # restore the tuned network for the next call
            if reference is None:
                pipe.enable_lora()
            else:
                setattr(pipe, part, tuned)
        return {}

    return step_end
