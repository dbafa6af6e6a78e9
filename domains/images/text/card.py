"""The model card of an export: what it is, and how it is loaded."""

import inspect
import json
from pathlib import Path
from typing import Any

LINES = """```python
import json, sys, diffusers, torch

run = "."  # this folder
sys.path.insert(0, run)
from handover import call_after_steps, handover, load_adapter

with open(f"{run}/graft.json") as file:
    settings = json.load(file)
load = {**settings["load"], "dtype": getattr(torch, settings["load"]["dtype"])}
kind = getattr(diffusers, settings["class"])
pipe = (kind.from_single_file if settings["single_file"] else kind.from_pretrained)(settings["pipeline"], **load)
pipe.scheduler = getattr(diffusers, settings["scheduler"]).from_pretrained(f"{run}/scheduler")
"""
FUSED = """pipe.load_lora_weights(settings["fused_lora"]["path"])
pipe.fuse_lora(lora_scale=settings["fused_lora"]["scale"])
pipe.unload_lora_weights()
"""
LOADED = {
    "adapter": """pipe.load_lora_weights(run, adapter_name="graft")
reference = None
""",
    "other adapter": """load_adapter(pipe, run, part=settings["denoiser"])
reference = None
""",
    "network": """reference = getattr(pipe, settings["denoiser"])
tuned = type(reference).from_pretrained(f"{run}/{settings['denoiser']}", dtype=load["dtype"])
setattr(pipe, settings["denoiser"], tuned)
""",
}
HANDOVER = """callback = handover(pipe, settings["level"], reference=reference, part=settings["denoiser"])
"""
CALLED = """image = pipe(prompt="PROMPT", **settings["call"], CALLBACK=callback)[0][0]
```
"""
NOT_CALLED = """call_after_steps(pipe, callback)
image = pipe(prompt="PROMPT", **settings["call"])[0][0]
```
"""
CALLBACKS = ("callback_on_step_end", "callback")
"""Arguments of a pipeline's call for a function that runs after each step; older pipelines have the second one."""


def text(about: "dict[str, Any]", steps: int, own_loader: bool) -> str:
    """Return the card: metadata of the hub, then what was tuned and lines that load it.

    Args:
        about: Settings of ``graft.json``.
        steps: Number of steps of the sampler.
        own_loader: The pipeline's own ``load_lora_weights`` loads the adapter.
    """
    import diffusers

    base = about["pipeline"]
    lora, level = about["lora"], about["level"]
    kind = getattr(diffusers, about["class"], None)
    way = "network" if not lora else "adapter" if own_loader else "other adapter"
    calls = inspect.signature(kind.__call__).parameters if kind is not None else {}
    here = Path(base).exists()
    metadata = [
        "library_name: diffusers",
        "pipeline_tag: text-to-image",
        *([] if here else [f"base_model: {json.dumps(base)}"]),
        *([] if here or not lora else ["base_model_relation: adapter"]),
        f"tags: [graft, text-to-image, {'lora' if lora else 'full-network'}]",
    ]
    what = f"A LoRA adapter of the {about['denoiser']}" if lora else f"A {about['denoiser']}, tuned as a whole,"
    above = (
        f"The tuned network samples from level 1 to {level:g} of {steps} steps, and the pipeline's own below it."
        if level > 0
        else f"The tuned network samples all {steps} steps."
    )
    lines = LINES + (FUSED if "fused_lora" in about else "") + LOADED[way]
    callback = next((name for name in CALLBACKS if name in calls), None)
    lines += HANDOVER + (CALLED.replace("CALLBACK", callback) if callback is not None else NOT_CALLED)
    return (
        "---\n"
        + "\n".join(metadata)
        + "\n---\n\n# Tuned with graft\n\n"
        + f"{what} for `{base if not here else Path(base).name}` ({about['class']}), tuned on a reward with graft "
        + "(arXiv 2510.02692).\n"
        + f"{above}\n\n{lines}"
    )
