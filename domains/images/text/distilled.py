"""Recognise models that are distilled to few steps."""

import re
from pathlib import Path
from typing import Any

NAME = re.compile(
    r"turbo|lightning|schnell|hyper-?sd|(?<![a-z])lcm(?![a-z])|sprint|distill|dmd|few-?step|(?<!\d)[1248]-?steps?(?![a-z0-9])",
    re.IGNORECASE,
)
FEW = 8
"""Most steps that distilled models are made for."""


def signs(weights: str, pipe: Any, network: Any, adapter: "str | None" = None) -> "str | None":
    """Return why a pipeline looks distilled to few steps; None if it does not.

    Args:
        weights: Name or path of the pipeline.
        pipe: Pipeline.
        network: Its denoiser.
        adapter: Path of an adapter that is fused into it.
    """
    name = type(pipe).__name__
    if name == "FluxPipeline" and not network.config.guidance_embeds:
        return "its FLUX transformer takes no guidance, as FLUX schnell's"
    if pipe.config.get("is_distilled"):
        return "its configuration says is_distilled"
    path = Path(weights)
    of_hub = next((part for part in path.parts if part.startswith("models--")), "")  # a folder in the hub's cache
    if found := NAME.search(path.name) or NAME.search(of_hub):
        return f"its name has {found[0]!r}"
    if adapter is not None and (found := NAME.search("/".join(Path(adapter).parts[-2:]))):
        return f"the name of its adapter has {found[0]!r}"
    return None


def advice(signs: str, steps: int, guided: bool) -> "str | None":
    """Return a sentence about settings that a distilled model is not made for; None if the settings fit.

    Args:
        signs: Why the pipeline looks distilled.
        steps: Number of steps of the sampler.
        guided: Classifier-free guidance is on.
    """
    wrong = [f"model.steps is {steps}"] if steps > FEW else []
    wrong += ["classifier-free guidance is on"] if guided else []
    if not wrong:
        return None
    return (
        f"the pipeline looks distilled to few steps ({signs}), and {' and '.join(wrong)}: set model.steps to 1 to "
        f"{FEW} and model.guidance.guidance_scale to 1, or give the model that it was made from"
    )
