"""What differs between the pipelines of the Stable Diffusion family: how text enters the network, and the clock."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

Given = dict[str, Tensor]
"""What a prompt is to the network: tensors of one row for each prompt."""


class PipelineAdapter(ABC):
    """One kind of pipeline, called as its own ``__call__`` calls it.

    Attributes:
        pipelines: Names of the diffusers classes.
        part: The denoiser's name in the pipeline.
        text: Names of the components that encode text.
        tokenizers: Names of their tokenizers.
        needed: Names of the components without which nothing can be drawn.
        scheduler_overrides: What the pipeline itself changes in its scheduler's configuration.
    """

    pipelines: ClassVar[tuple[str, ...]]
    part: ClassVar[str] = "unet"
    text: ClassVar[tuple[str, ...]] = ("text_encoder",)
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer",)
    needed: ClassVar[tuple[str, ...]] = ("unet", "vae", "scheduler", "text_encoder", "tokenizer")
    scheduler_overrides: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def encode(self, pipe: Any, prompt: str, device: torch.device) -> Given:
        """What the prompt is to the network."""

    @abstractmethod
    def negative(self, pipe: Any, prompt: "str | None", device: torch.device) -> Given:
        """What the network is given in the place of a prompt; None: as the pipeline has it if nothing is said."""

    @abstractmethod
    def call(self, network: nn.Module, x: Tensor, time: Tensor, given: Given, guidance: float) -> Tensor:
        """The network's output.

        Args:
            network: The denoiser.
            x: (B, C, H, W) latents.
            time: (B,) as the scheduler's ``timesteps``.
            given: (B, ...) each.
            guidance: For networks that were distilled with it.
        """

    def channels(self, network: Any) -> int:
        """Of the latents."""
        return int(network.config.in_channels)

    def set_timesteps_kwargs(self, pipe: Any, steps: int, shape: tuple[int, int, int]) -> dict[str, Any]:
        """What the pipeline gives the scheduler's ``set_timesteps`` besides the number of steps."""
        return {}


class StableDiffusion(PipelineAdapter):
    """SD 1.x and 2.x."""

    pipelines = ("StableDiffusionPipeline",)
    scheduler_overrides: ClassVar[dict[str, Any]] = {"steps_offset": 1, "clip_sample": False}

    def encode(self, pipe: Any, prompt: str, device: torch.device) -> Given:
        """See `PipelineAdapter.encode`."""
        return {"text": pipe.encode_prompt(prompt, device, 1, False)[0]}

    def negative(self, pipe: Any, prompt: "str | None", device: torch.device) -> Given:
        """See `PipelineAdapter.negative`."""
        return {"text": pipe.encode_prompt("", device, 1, True, prompt)[1]}

    def call(self, network: nn.Module, x: Tensor, time: Tensor, given: Given, guidance: float) -> Tensor:
        """See `PipelineAdapter.call`."""
        output: Tensor = network(x, time, encoder_hidden_states=given["text"], return_dict=False)[0]
        return output


class StableDiffusionXL(PipelineAdapter):
    """SDXL: two text encoders, and the size of the picture as a condition."""

    pipelines = ("StableDiffusionXLPipeline",)
    text = ("text_encoder", "text_encoder_2")
    tokenizers = ("tokenizer", "tokenizer_2")
    needed = (*StableDiffusion.needed, "text_encoder_2", "tokenizer_2")

    def encode(self, pipe: Any, prompt: str, device: torch.device) -> Given:
        """See `PipelineAdapter.encode`."""
        text, _, pooled, _ = pipe.encode_prompt(prompt, device=device, do_classifier_free_guidance=False)
        return {"text": text, "pooled": pooled}

    def negative(self, pipe: Any, prompt: "str | None", device: torch.device) -> Given:
        """See `PipelineAdapter.negative`."""
        found = pipe.encode_prompt("", device=device, do_classifier_free_guidance=True, negative_prompt=prompt)
        return {"text": found[1], "pooled": found[3]}

    def call(self, network: nn.Module, x: Tensor, time: Tensor, given: Given, guidance: float) -> Tensor:
        """See `PipelineAdapter.call`; the size is the target's, uncropped, as the pipeline has it by default."""
        added = {"text_embeds": given["pooled"], "time_ids": given["size"]}
        output: Tensor = network(
            x, time, encoder_hidden_states=given["text"], added_cond_kwargs=added, return_dict=False
        )[0]
        return output


class StableDiffusion3(PipelineAdapter):
    """SD 3 and 3.5: a transformer that predicts the flow's velocity."""

    pipelines = ("StableDiffusion3Pipeline",)
    part = "transformer"
    text = ("text_encoder", "text_encoder_2", "text_encoder_3")
    tokenizers = ("tokenizer", "tokenizer_2", "tokenizer_3")
    needed = ("transformer", "vae", "scheduler", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")

    def encode(self, pipe: Any, prompt: str, device: torch.device) -> Given:
        """See `PipelineAdapter.encode`."""
        text, _, pooled, _ = pipe.encode_prompt(prompt, None, None, device=device, do_classifier_free_guidance=False)
        return {"text": text, "pooled": pooled}

    def negative(self, pipe: Any, prompt: "str | None", device: torch.device) -> Given:
        """See `PipelineAdapter.negative`."""
        found = pipe.encode_prompt(
            "", None, None, device=device, do_classifier_free_guidance=True, negative_prompt=prompt
        )
        return {"text": found[1], "pooled": found[3]}

    def call(self, network: nn.Module, x: Tensor, time: Tensor, given: Given, guidance: float) -> Tensor:
        """See `PipelineAdapter.call`."""
        output: Tensor = network(
            hidden_states=x,
            timestep=time,
            encoder_hidden_states=given["text"],
            pooled_projections=given["pooled"],
            return_dict=False,
        )[0]
        return output

    def set_timesteps_kwargs(self, pipe: Any, steps: int, shape: tuple[int, int, int]) -> dict[str, Any]:
        """See `PipelineAdapter.set_timesteps_kwargs`."""
        if not pipe.scheduler.config.use_dynamic_shifting:
            return {}
        patch = pipe.transformer.config.patch_size
        return {"mu": shift(pipe.scheduler.config, (shape[1] // patch) * (shape[2] // patch))}


class Flux(PipelineAdapter):
    """FLUX: as SD 3, on latents packed in patches of 2 x 2, distilled with guidance or not."""

    pipelines = ("FluxPipeline",)
    part = "transformer"
    text = ("text_encoder", "text_encoder_2")
    tokenizers = ("tokenizer", "tokenizer_2")
    needed = StableDiffusion3.needed

    def encode(self, pipe: Any, prompt: str, device: torch.device) -> Given:
        """See `PipelineAdapter.encode`."""
        text, pooled, _ = pipe.encode_prompt(prompt, None, device=device)
        return {"text": text, "pooled": pooled}

    def negative(self, pipe: Any, prompt: "str | None", device: torch.device) -> Given:
        """See `PipelineAdapter.negative`."""
        return self.encode(pipe, prompt or "", device)

    def call(self, network: nn.Module, x: Tensor, time: Tensor, given: Given, guidance: float) -> Tensor:
        """See `PipelineAdapter.call`."""
        count, channels, height, width = x.shape
        packed = x.view(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        places = torch.zeros(height // 2, width // 2, 3, device=x.device, dtype=x.dtype)
        places[..., 1] = torch.arange(height // 2, device=x.device)[:, None]
        places[..., 2] = torch.arange(width // 2, device=x.device)
        config: Any = network.config
        told = torch.full((count,), guidance, device=x.device) if config.guidance_embeds else None
        output: Tensor = network(
            hidden_states=packed.reshape(count, -1, channels * 4),
            timestep=time.to(x.dtype) / 1000,
            guidance=told,
            pooled_projections=given["pooled"],
            encoder_hidden_states=given["text"],
            txt_ids=torch.zeros(given["text"].shape[1], 3, device=x.device, dtype=x.dtype),
            img_ids=places.reshape(-1, 3),
            return_dict=False,
        )[0]
        patches = output.view(count, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return patches.reshape(count, channels, height, width)

    def channels(self, network: Any) -> int:
        """See `PipelineAdapter.channels`."""
        return int(network.config.in_channels) // 4

    def set_timesteps_kwargs(self, pipe: Any, steps: int, shape: tuple[int, int, int]) -> dict[str, Any]:
        """See `PipelineAdapter.set_timesteps_kwargs`."""
        patches = (shape[1] // 2) * (shape[2] // 2)
        return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": shift(pipe.scheduler.config, patches)}


def shift(config: Any, patches: int) -> float:
    """The shift mu of a flow's clock for pictures of so many patches: linear between two sizes."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    first, last = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (last - first) / (high - low)
    return float(patches * slope + first - slope * low)


FAMILIES: tuple[PipelineAdapter, ...] = (StableDiffusion(), StableDiffusionXL(), StableDiffusion3(), Flux())
"""The kinds of pipelines that can be tuned."""
