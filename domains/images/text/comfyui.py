"""A ComfyUI workflow with core nodes that switches the adapter off at the hand-over level."""

from typing import Any

import torch


def workflow(scheduler: Any, steps: int, level: float, call: "dict[str, Any]", adapter: str) -> dict[str, Any]:
    """Return the workflow in ComfyUI's format of requests (API): nodes by number.

    The adapter is a hook with two keyframes: on from the start, and off from the hand-over. The checkpoint's name is
    to be filled in.

    Args:
        scheduler: DDIM scheduler of the sampler.
        steps: Number of steps.
        level: u*, the level of the hand-over; at 0 the adapter stays on.
        call: Arguments of the pipeline's call: guidance, prompts and size.
        adapter: Name of the adapter's file in ComfyUI's ``models/loras``.
    """
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": "CHECKPOINT.safetensors"}),
        "2": ("CLIPTextEncode", {"clip": ["1", 1], "text": "PROMPT"}),
        "3": ("CLIPTextEncode", {"clip": ["1", 1], "text": call.get("negative_prompt") or ""}),
        "4": ("CreateHookLoraModelOnly", {"lora_name": adapter, "strength_model": 1.0}),
        "5": ("CreateHookKeyframe", {"strength_mult": 1.0, "start_percent": 0.0}),
    }
    last = "5"
    if level > 0:
        switched = {"strength_mult": 0.0, "start_percent": start_percent(scheduler, steps, level)}
        nodes["6"] = ("CreateHookKeyframe", {**switched, "prev_hook_kf": ["5", 0]})
        last = "6"
    both = {"positive_NEW": ["2", 0], "negative_NEW": ["3", 0], "strength": 1.0, "set_cond_area": "default"}
    size = {"width": call["width"], "height": call["height"], "batch_size": 1}
    sampler = {"sampler_name": "ddim", "scheduler": "ddim_uniform", "seed": 0, "steps": steps, "denoise": 1.0}
    nodes |= {
        "7": ("SetHookKeyframes", {"hooks": ["4", 0], "hook_kf": [last, 0]}),
        "8": ("PairConditioningSetProperties", {**both, "opt_hooks": ["7", 0]}),
        "9": ("EmptyLatentImage", size),
        "10": (
            "KSampler",
            {
                **sampler,
                "cfg": float(call["guidance_scale"]),
                "model": ["1", 0],
                "positive": ["8", 0],
                "negative": ["8", 1],
                "latent_image": ["9", 0],
            },
        ),
        "11": ("VAEDecode", {"samples": ["10", 0], "vae": ["1", 2]}),
        "12": ("SaveImage", {"images": ["11", 0], "filename_prefix": "graft"}),
    }
    return {number: {"class_type": kind, "inputs": given} for number, (kind, given) in nodes.items()}


def start_percent(scheduler: Any, steps: int, level: float) -> float:
    """Return the share of ComfyUI's clock at which the reference takes over.

    ComfyUI counts 1 − time / 999. The switch stands between the last step of the tuned network and the first one of
    the reference, so that a sampler with slightly other times switches at the same step.

    Args:
        scheduler: Scheduler of the sampler.
        steps: Number of steps.
        level: u*, the level of the hand-over.
    """
    scheduler.set_timesteps(steps)
    times = torch.as_tensor(scheduler.timesteps).double()
    first = steps - round(level * steps)
    between = float(times[first - 1] + times[first]) / 2
    return round(1 - between / (int(scheduler.config.num_train_timesteps) - 1), 4)
