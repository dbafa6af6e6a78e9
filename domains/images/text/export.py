"""Export the tuned model for plain diffusers: adapter, scheduler and settings."""

import inspect
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from domains.images.text import card, comfyui, handover, kohya
from graft.core.distributed import is_rank_zero
from graft.core.finite import require_finite_weights
from graft.io.atomic import replace_folder, write_text
from graft.io.json_files import write_json
from graft.network.sharded import full_tensor

if TYPE_CHECKING:
    from domains.images.text.module import TextToImage

SETTINGS = "graft.json"
ADAPTER = "graft_lora.safetensors"
COMFYUI = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Pipelines with a UNet that ComfyUI and kohya's tools know."""


def write(module: "TextToImage", folder: Path) -> None:
    """Write the adapter or network, ``scheduler/``, ``handover.py``, ``graft.json`` and a model card.

    For Stable Diffusion's UNets ``comfyui/`` has the adapter in kohya's format, and a workflow.

    diffusers' ``load_lora_weights`` reads the adapter. A LoRA's scale alpha / rank is multiplied into its weights, so
    that every version of diffusers reads the same. Rank 0 writes; a whole network that is sharded is left to the run's
    ``tuned.safetensors``.

    Args:
        module: Module with the weights; its averaged weights are taken if there is an average.
        folder: Folder of the export; an earlier export in it is replaced.
    """
    with module.policy.eval_weights():
        adapter = lora(module.policy.backbone)
        if adapter is not None:
            require_finite_weights(adapter, f"the adapter in {folder} was not written", "lower model.optimizer.lr")
        if not is_rank_zero():
            return
        replace_folder(folder, partial(_write, module, adapter))


def _write(module: "TextToImage", adapter: "dict[str, Any] | None", folder: Path) -> None:
    pipeline = module._pipeline
    pipe, part = pipeline.pipe, pipeline.adapter.part
    if adapter is not None:
        _write_adapter(pipe, part, adapter, folder)
    elif not any(isinstance(parameter, DTensor) for parameter in pipeline.network.parameters()):
        pipeline.network.save_pretrained(folder / part)
    pipe.scheduler.save_pretrained(folder / "scheduler")
    write_text(folder / "handover.py", inspect.getsource(handover))
    call = {"num_inference_steps": module.policy.steps, **pipeline.adapter.call_settings(pipe, module._settings)}
    eta = float(module.policy.process.eta)  # type: ignore[attr-defined]
    call |= {"eta": eta} if "eta" in inspect.signature(type(pipe).__call__).parameters else {}
    about: dict[str, Any] = {
        "pipeline": pipeline.path,
        "class": type(pipe).__name__,
        "load": pipeline.loaded,
        "scheduler": type(pipe.scheduler).__name__,
    }
    if (fused := pipeline.fused) is not None:
        path = Path(fused.path).expanduser()
        about["fused_lora"] = {"path": str(path.resolve()), "scale": fused.scale}
    about["single_file"] = pipeline.single_file is not None
    level = module.policy.handover_level
    about |= {"level": level, "denoiser": part, "lora": adapter is not None}
    write_json(folder / SETTINGS, {**about, "eta": eta, "call": call})
    own_loader = hasattr(pipe, "load_lora_weights") and hasattr(pipeline.network, "load_lora_adapter")
    write_text(folder / "README.md", card.text(about, module.policy.steps, own_loader))
    if adapter is not None and about["class"] in COMFYUI:
        stability = about["class"] == "StableDiffusionXLPipeline"
        (folder / "comfyui").mkdir()
        save_file(kohya.keys(adapter, pipeline.network.config, stability), folder / "comfyui" / ADAPTER)
        write_json(
            folder / "comfyui/workflow.json",
            comfyui.workflow(pipe.scheduler, module.policy.steps, level, call, ADAPTER),
        )


def _write_adapter(pipe: Any, part: str, adapter: "dict[str, Any]", folder: Path) -> None:
    """Write the adapter in diffusers' format, also for pipelines that have no loader of adapters."""
    if hasattr(pipe, "save_lora_weights"):
        pipe.save_lora_weights(folder, **{f"{part}_lora_layers": adapter})
    else:
        names = {f"{part}.{name}": tensor for name, tensor in adapter.items()}
        save_file(names, folder / "pytorch_lora_weights.safetensors", {"format": "pt"})


def lora(backbone: Any) -> "dict[str, Tensor] | None":
    """Return the adapter's tensors by diffusers' names, with the scale; None without an adapter."""
    if not hasattr(backbone, "peft_config"):
        return None
    from peft import get_peft_model_state_dict

    config = backbone.peft_config["default"]
    scale = config.lora_alpha / config.r
    found: dict[str, Tensor] = {}
    for name, tensor in get_peft_model_state_dict(backbone).items():
        short = name.removeprefix("base_model.model.network.")
        tensor = full_tensor(tensor.detach())
        found[short] = (tensor * scale if "lora_B" in short else tensor).float().cpu().contiguous()
    return found
