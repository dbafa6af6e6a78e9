"""For plain diffusers: the adapter is on above the hand-over level, and off below it.

This file needs only diffusers, and peft for an adapter. graft copies it next to every exported adapter.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = "pytorch_lora_weights.safetensors"


def load_adapter(pipe: Any, folder: "str | Path", adapter: str = "graft", part: "str | None" = None) -> None:
    """Load the adapter of an export, also into networks that diffusers loads no adapters for.

    Args:
        pipe: Pipeline.
        folder: Folder of the export.
        adapter: Name of the adapter in the pipeline.
        part: Name of the denoiser in the pipeline; ``unet`` or ``transformer`` if not given.
    """
    part = part or denoiser(pipe)
    network = getattr(pipe, part)
    if hasattr(network, "load_lora_adapter"):
        network.load_lora_adapter(str(folder), prefix=part, adapter_name=adapter)
        return
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    tensors = {name.removeprefix(f"{part}."): value for name, value in load_file(Path(folder) / FILE).items()}
    layers = sorted({name.rpartition(".lora_")[0] for name in tensors})
    ranks = {len(value) for name, value in tensors.items() if ".lora_A" in name}
    (rank,) = ranks  # the scale is multiplied into the weights, so alpha is the rank
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers), network, adapter)
    set_peft_model_state_dict(network, tensors, adapter)


def handover(
    pipe: Any, level: float, adapter: str = "graft", reference: Any = None, part: "str | None" = None
) -> Callable[..., dict[str, Any]]:
    """Return a ``callback_on_step_end`` that switches to the reference at ``level``.

    The tuned network samples from 1 to ``level``, the reference from there to 0. The tuned network is restored whenever
    a call of the pipeline sets its timesteps, also after a call that was interrupted. Other adapters of the pipeline
    stay as they are. Pipelines of an older form take the same function as their ``callback``.

    Args:
        pipe: Pipeline with the adapter.
        level: u*, a fraction of the sampler's steps. At 0 nothing is switched.
        adapter: Name of the adapter in the pipeline.
        reference: Frozen UNet or transformer if the whole network was tuned; None for a LoRA adapter.
        part: Name of the denoiser in the pipeline; ``unet`` or ``transformer`` if not given.
    """
    part = part or denoiser(pipe)
    network = getattr(pipe, part)
    if reference is not None:
        if network is reference:  # an interrupted call left the reference in the pipeline
            network = reference._graft_tuned
        object.__setattr__(reference, "_graft_tuned", network)

    def set_tuned(tuned: bool) -> None:
        if reference is None:
            switch(network, adapter, tuned)
        else:
            setattr(pipe, part, network if tuned else reference)

    scheduler = pipe.scheduler
    begin = getattr(scheduler.set_timesteps, "_graft_own", scheduler.set_timesteps)

    @functools.wraps(begin)
    def set_timesteps(*args: Any, **kwargs: Any) -> Any:
        set_tuned(True)
        return begin(*args, **kwargs)

    set_timesteps._graft_own = begin  # type: ignore[attr-defined]
    scheduler.set_timesteps = set_timesteps
    set_tuned(True)

    def step_end(*given: Any) -> dict[str, Any]:
        step = given[1] if len(given) == 4 else given[0]  # (pipe, step, time, tensors), or (step, time, latents)
        steps = len(pipe.scheduler.timesteps)
        last, first_of_reference = step + 1 == steps, step + 1 == steps - round(level * steps)
        if level > 0 and (last or first_of_reference):  # the tuned network is restored for the next call
            set_tuned(last)
        return {}

    return step_end


def call_after_steps(pipe: Any, callback: Callable[..., Any]) -> None:
    """Call a callback of `handover` after each step of a pipeline whose call takes none.

    Args:
        pipe: Pipeline.
        callback: The callback.
    """
    scheduler = pipe.scheduler
    own = getattr(scheduler.step, "_graft_own", scheduler.step)

    @functools.wraps(own)
    def step(output: Any, time: Any, *args: Any, **kwargs: Any) -> Any:
        place = scheduler.timesteps.tolist().index(float(time))
        found = own(output, time, *args, **kwargs)
        callback(place, time, None)
        return found

    step._graft_own = own  # type: ignore[attr-defined]
    scheduler.step = step


def denoiser(pipe: Any) -> str:
    """Return the name of a pipeline's denoiser."""
    return "unet" if getattr(pipe, "unet", None) is not None else "transformer"


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
