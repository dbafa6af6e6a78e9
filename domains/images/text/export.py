"""Export the tuned model for plain diffusers: adapter, scheduler and settings."""

import inspect
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.distributed.tensor import DTensor

from domains.images.text import handover
from graft.core.distributed import is_rank_zero
from graft.core.finite import require_finite_weights
from graft.io.atomic import write_text, written_folder
from graft.io.json_files import write_json
from graft.network.sharded import full_tensor

if TYPE_CHECKING:
    from domains.images.text.module import TextToImage

SETTINGS = "graft.json"


def write(module: "TextToImage", folder: Path) -> None:
    """Write the adapter or network, ``scheduler/``, ``handover.py`` and ``graft.json``.

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
        written_folder(folder, partial(_write, module, adapter))


def _write(module: "TextToImage", adapter: "dict[str, Any] | None", folder: Path) -> None:
    pipeline = module._pipeline
    pipe, part = pipeline.pipe, pipeline.adapter.part
    if adapter is not None:
        pipe.save_lora_weights(folder, **{f"{part}_lora_layers": adapter})
    elif not any(isinstance(parameter, DTensor) for parameter in pipeline.network.parameters()):
        pipeline.network.save_pretrained(folder / part)
    pipe.scheduler.save_pretrained(folder / "scheduler")
    write_text(folder / "handover.py", inspect.getsource(handover))
    call = {"num_inference_steps": module.policy.steps, **pipeline.adapter.call_settings(pipe, module._asked)}
    eta = float(module.policy.process.eta)  # type: ignore[attr-defined]
    call |= {"eta": eta} if part == "unet" else {}
    about: dict[str, Any] = {
        "pipeline": pipeline.path,
        "load": pipeline.loaded,
        "scheduler": type(pipe.scheduler).__name__,
    }
    about |= {"level": module.policy.interval.low, "denoiser": part, "lora": adapter is not None}
    write_json(folder / SETTINGS, {**about, "eta": eta, "call": call})


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
