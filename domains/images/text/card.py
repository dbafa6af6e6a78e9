"""The model card of an export: what it is, and how it is loaded."""

import inspect
import json
from pathlib import Path
from typing import Any

LINES = """```python
import json, sys, diffusers, torch

run = "."  # this folder
sys.path.insert(0, run)
from handover import handover

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
    "other adapter": """network = getattr(pipe, settings["denoiser"])
network.load_lora_adapter(run, prefix=settings["denoiser"], adapter_name="graft")
reference = None
""",
    "network": """reference = getattr(pipe, settings["denoiser"])
tuned = type(reference).from_pretrained(f"{run}/{settings['denoiser']}", dtype=load["dtype"])
setattr(pipe, settings["denoiser"], tuned)
""",
}
HANDOVER = """callback = handover(pipe, settings["level"], reference=reference)
image = pipe(prompt="PROMPT", **settings["call"], callback_on_step_end=callback).images[0]
```
"""
PLAIN = """image = pipe(prompt="PROMPT", **settings["call"]).images[0]
```
"""


def text(about: "dict[str, Any]", steps: int) -> str:
    """Return the card: metadata of the hub, then what was tuned and lines that load it.

    Args:
        about: Settings of ``graft.json``.
        steps: Number of steps of the sampler.
    """
    import diffusers

    base = about["pipeline"]
    lora, level = about["lora"], about["level"]
    kind = getattr(diffusers, about["class"], None)
    way = "network" if not lora else "adapter" if hasattr(kind, "load_lora_weights") else "other adapter"
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
    lines += HANDOVER if "callback_on_step_end" in calls else PLAIN
    return (
        "---\n"
        + "\n".join(metadata)
        + "\n---\n\n# Tuned with graft\n\n"
        + f"{what} for `{base if not here else Path(base).name}` ({about['class']}), tuned on a reward with graft "
        + "(arXiv 2510.02692).\n"
        + f"{above}\n\n{lines}"
    )
