"""The networks of the small text-to-image pipeline, each of diffusers' or transformers' own classes."""

from typing import Any

from torch import nn

from domains.images.captioned.scenes import SIDE
from domains.images.captioned.words import LENGTH

WIDTH = 64
"""Size of the embedding of a token."""

CHANNELS = 8
"""Channels of a latent."""


def autoencoder() -> Any:
    """Return an ``AutoencoderKL`` from 32 x 32 pixels to latents of 8 x 8 x 8."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(12, 24, 48),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=4,
        sample_size=SIDE,
        mid_block_add_attention=False,
        scaling_factor=1.0,  # the training sets it
    )


def text_encoder_and_denoiser(tokenizer: Any) -> dict[str, nn.Module]:
    """Return a ``CLIPTextModel`` and a ``UNet2DConditionModel`` that it conditions."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    denoiser = UNet2DConditionModel(
        sample_size=8,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        layers_per_block=1,
        block_out_channels=(48, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2D",
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    return {"text_encoder": text, "unet": denoiser}


def scheduler() -> Any:
    """Return the scheduler of Stable Diffusion with more noise at its end, for a network that predicts v."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.02,  # the mean of a small picture is seen through the noise that Stable Diffusion ends with
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )
