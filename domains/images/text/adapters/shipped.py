"""Adapters of the Stable Diffusion family and of FLUX.

They differ in the encoding of text, the call of the network and the timesteps.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from domains.images.text.adapters.base import Given, PromptSettings
from domains.images.text.adapters.encoded import EncodedAdapter

if TYPE_CHECKING:
    from domains.images.text.pipeline import Pipeline


class StableDiffusion(EncodedAdapter):
    """SD 1.x and 2.x."""

    pipelines = ("StableDiffusionPipeline",)
    scheduler_overrides: ClassVar[dict[str, Any]] = {"steps_offset": 1, "clip_sample": False}

    @override
    def encode(self, pipe: Any, prompt: str, device: torch.device) -> Given:
        return {"text": pipe.encode_prompt(prompt, device, 1, False)[0]}

    @override
    def negative(self, pipe: Any, prompt: "str | None", device: torch.device) -> Given:
        return {"text": pipe.encode_prompt("", device, 1, True, prompt)[1]}

    @override
    def call(self, network: nn.Module, x: Tensor, time: Tensor, given: Given, guidance: float) -> Tensor:
        output: Tensor = network(x, time, encoder_hidden_states=given["text"], return_dict=False)[0]
        return output


class StableDiffusionXL(EncodedAdapter):
    """SDXL: two text encoders, and the size of the picture as a condition."""

    pipelines = ("StableDiffusionXLPipeline",)
    text = ("text_encoder", "text_encoder_2")
    tokenizers = ("tokenizer", "tokenizer_2")
    needed = (*StableDiffusion.needed, "text_encoder_2", "tokenizer_2")

    @override
    def encode(self, pipe: Any, prompt: str, device: torch.device) -> Given:
        text, _, pooled, _ = pipe.encode_prompt(prompt, device=device, do_classifier_free_guidance=False)
        return {"text": text, "pooled": pooled}

    @override
    def negative(self, pipe: Any, prompt: "str | None", device: torch.device) -> Given:
        found = pipe.encode_prompt("", device=device, do_classifier_free_guidance=True, negative_prompt=prompt)
        return {"text": found[1], "pooled": found[3]}

    @override
    def call(self, network: nn.Module, x: Tensor, time: Tensor, given: Given, guidance: float) -> Tensor:
        """Return the network's output for the target's size, uncropped: the pipeline's default."""
        added = {"text_embeds": given["pooled"], "time_ids": given["size"]}
        output: Tensor = network(
            x, time, encoder_hidden_states=given["text"], added_cond_kwargs=added, return_dict=False
        )[0]
        return output


class StableDiffusion3(EncodedAdapter):
    """SD 3 and 3.5: a transformer that predicts the flow's velocity."""

    pipelines = ("StableDiffusion3Pipeline",)
    part = "transformer"
    text = ("text_encoder", "text_encoder_2", "text_encoder_3")
    tokenizers = ("tokenizer", "tokenizer_2", "tokenizer_3")
    needed = ("transformer", "vae", "scheduler", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")

    @override
    def encode(self, pipe: Any, prompt: str, device: torch.device) -> Given:
        text, _, pooled, _ = pipe.encode_prompt(prompt, None, None, device=device, do_classifier_free_guidance=False)
        return {"text": text, "pooled": pooled}

    @override
    def negative(self, pipe: Any, prompt: "str | None", device: torch.device) -> Given:
        found = pipe.encode_prompt(
            "", None, None, device=device, do_classifier_free_guidance=True, negative_prompt=prompt
        )
        return {"text": found[1], "pooled": found[3]}

    @override
    def call(self, network: nn.Module, x: Tensor, time: Tensor, given: Given, guidance: float) -> Tensor:
        output: Tensor = network(
            hidden_states=x,
            timestep=time,
            encoder_hidden_states=given["text"],
            pooled_projections=given["pooled"],
            return_dict=False,
        )[0]
        return output

    @override
    def set_timesteps_kwargs(self, pipeline: "Pipeline", steps: int, settings: PromptSettings) -> dict[str, Any]:
        pipe = pipeline.pipe
        if not pipe.scheduler.config.use_dynamic_shifting:
            return {}
        patch, shape = pipe.transformer.config.patch_size, self.latent_shape(pipe, settings)
        return {"mu": shift(pipe.scheduler.config, (shape[1] // patch) * (shape[2] // patch))}


class Flux(EncodedAdapter):
    """FLUX: like SD 3, on latents packed in patches of 2 x 2.

    Some of its models are distilled with guidance.
    """

    pipelines = ("FluxPipeline",)
    part = "transformer"
    text = ("text_encoder", "text_encoder_2")
    tokenizers = ("tokenizer", "tokenizer_2")
    needed = StableDiffusion3.needed

    @override
    def encode(self, pipe: Any, prompt: str, device: torch.device) -> Given:
        text, pooled, _ = pipe.encode_prompt(prompt, None, device=device)
        return {"text": text, "pooled": pooled}

    @override
    def negative(self, pipe: Any, prompt: "str | None", device: torch.device) -> Given:
        return self.encode(pipe, prompt or "", device)

    @override
    def call(self, network: nn.Module, x: Tensor, time: Tensor, given: Given, guidance: float) -> Tensor:
        count, channels, height, width = x.shape
        packed = x.view(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        places = torch.zeros(height // 2, width // 2, 3, device=x.device, dtype=x.dtype)
        places[..., 1] = torch.arange(height // 2, device=x.device)[:, None]
        places[..., 2] = torch.arange(width // 2, device=x.device)
        config: Any = network.config
        scale = torch.full((count,), guidance, device=x.device) if config.guidance_embeds else None
        output: Tensor = network(
            hidden_states=packed.reshape(count, -1, channels * 4),
            timestep=time.to(x.dtype) / 1000,
            guidance=scale,
            pooled_projections=given["pooled"],
            encoder_hidden_states=given["text"],
            txt_ids=torch.zeros(given["text"].shape[1], 3, device=x.device, dtype=x.dtype),
            img_ids=places.reshape(-1, 3),
            return_dict=False,
        )[0]
        return self.own_state(output, (channels, height, width))

    @override
    def channels(self, network: Any) -> int:
        return int(network.config.in_channels) // 4

    @override
    def call_settings(self, pipe: Any, settings: PromptSettings) -> dict[str, Any]:
        guidance = settings.guidance
        found = super().call_settings(pipe, settings) | {"guidance_scale": guidance.embedded_guidance_scale}
        if guidance.on:
            found |= {"true_cfg_scale": guidance.guidance_scale, "negative_prompt": guidance.negative_prompt or ""}
        return found

    @override
    def own_state(self, sample: Tensor, shape: tuple[int, ...]) -> Tensor:
        channels, height, width = shape
        patches = sample.view(len(sample), height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
        return patches.reshape(len(sample), *shape)

    @override
    def set_timesteps_kwargs(self, pipeline: "Pipeline", steps: int, settings: PromptSettings) -> dict[str, Any]:
        pipe = pipeline.pipe
        shape = self.latent_shape(pipe, settings)
        patches = (shape[1] // 2) * (shape[2] // 2)
        return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": shift(pipe.scheduler.config, patches)}


def shift(config: Any, patches: int) -> float:
    """Return the timestep shift mu for a number of patches: linear between two sizes, as diffusers computes it."""
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    first, last = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (last - first) / (high - low)
    return float(patches * slope + first - slope * low)
