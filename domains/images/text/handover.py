"""For plain diffusers: the adapter is on above the hand-over level, and off below it.

This file needs only diffusers. graft copies it next to every exported adapter.
"""

from collections.abc import Callable
from typing import Any


def handover(pipe: Any, level: float, adapter: str = "graft", reference: Any = None) -> Callable[..., dict[str, Any]]:
    """Return a ``callback_on_step_end`` that switches to the reference at ``level``.

    The tuned network samples from 1 to ``level``, the reference from there to 0. Make a callback for each call: the
    tuned network is restored when the callback is made, also after a call that was interrupted. Other adapters of the
    pipeline stay as they are.

    Args:
        pipe: Pipeline with the adapter.
        level: u*, a fraction of the sampler's steps. At 0 nothing is switched.
        adapter: Name of the adapter in the pipeline.
        reference: Frozen UNet or transformer if the whole network was tuned; None for a LoRA adapter.
    """
    part = "unet" if getattr(pipe, "unet", None) is not None else "transformer"
    network = getattr(pipe, part)
    if reference is None:
        switch(network, adapter, True)
    else:
        if network is reference:  # an interrupted call left the reference in the pipeline
            network = reference._graft_tuned
            setattr(pipe, part, network)
        object.__setattr__(reference, "_graft_tuned", network)

    def step_end(pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        steps = pipe.num_timesteps
        last, first_of_reference = step + 1 == steps, step + 1 == steps - round(level * steps)
        if level > 0 and (last or first_of_reference):  # the tuned network is restored for the next call
            if reference is None:
                switch(network, adapter, last)
            else:
                setattr(pipe, part, network if last else reference)
        return {}

    return step_end


def switch(network: Any, adapter: str, on: bool) -> None:
    """Turn one adapter of a network on or off.

    Args:
        network: UNet or transformer.
        adapter: Name of the adapter.
        on: Turn the adapter on.
    """
    for layer in network.modules():
        if adapter in getattr(layer, "lora_A", ()):
            others = [name for name in layer.active_adapters if name != adapter]
            layer.set_adapter([*others, adapter] if on else others)
