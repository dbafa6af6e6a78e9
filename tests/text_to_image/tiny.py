"""Tiny pipelines of the real classes, with tokenizers made on the spot, saved as a user has them."""

from __future__ import annotations

import string
import warnings
from pathlib import Path
from typing import Any

import torch

SIZE = 8  # of the latents; pictures have twice as many pixels
CROSS = 16


def tokenizer(length: int = 16) -> Any:
    from transformers import CLIPTokenizer

    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=length)


def t5_tokenizer(length: int = 16) -> Any:
    from transformers import T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", "▁", *string.printable.strip()]
    pieces += [word for word in ("Yes", "▁Yes", "▁yes", "▁no")]
    vocab = [(piece, -float(len(piece) == 1)) for piece in dict.fromkeys(pieces)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=length)


def clip(tokenizer: Any, width: int = CROSS, projection: int = CROSS, projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=projection,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def vae(channels: int, shift: float | None = None) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=2 * SIZE,
        shift_factor=shift,
    )


def unet(**more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        norm_num_groups=4,
        **{"cross_attention_dim": CROSS, **more},
    )


def scheduler(prediction: str = "epsilon", **more: Any) -> Any:
    """Return the scheduler of Stable Diffusion."""
    from diffusers import DDIMScheduler

    given = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    given |= {"set_alpha_to_one": False, "steps_offset": 1, "prediction_type": prediction}
    return DDIMScheduler(**{**given, **more})


def stable_diffusion(prediction: str = "epsilon", solver: Any = None) -> Any:
    from diffusers import StableDiffusionPipeline

    torch.manual_seed(0)
    words = tokenizer()
    return StableDiffusionPipeline(
        vae=vae(4),
        text_encoder=clip(words),
        tokenizer=words,
        unet=unet(),
        scheduler=scheduler(prediction) if solver is None else solver,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    torch.manual_seed(0)
    words = tokenizer()
    network = unet(
        cross_attention_dim=2 * CROSS,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + CROSS,
        transformer_layers_per_block=1,
    )
    return StableDiffusionXLPipeline(
        vae=vae(4),
        text_encoder=clip(words),
        text_encoder_2=clip(words, projected=True),
        tokenizer=words,
        tokenizer_2=words,
        unet=network,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )


def t5(vocab_size: int, width: int = CROSS, kind: str = "T5") -> Any:
    """Return a text encoder of the T5 family."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=vocab_size, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    return getattr(transformers, f"{kind}EncoderModel")(config).eval()


def stable_diffusion_3(third: bool = False) -> Any:
    """Return a tiny pipeline with its third text encoder, T5, or as it is saved without."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    torch.manual_seed(0)
    words = tokenizer()
    network = SD3Transformer2DModel(
        sample_size=SIZE,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * CROSS,
        caption_projection_dim=16,
        pooled_projection_dim=2 * CROSS,
        pos_embed_max_size=SIZE,
    )
    pieces = t5_tokenizer() if third else None
    return StableDiffusion3Pipeline(
        vae=vae(4, shift=0.06),
        text_encoder=clip(words, projected=True),
        text_encoder_2=clip(words, projected=True),
        text_encoder_3=t5(len(pieces), 2 * CROSS) if third else None,
        tokenizer=words,
        tokenizer_2=words,
        tokenizer_3=pieces,
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def flux() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    torch.manual_seed(0)
    words, pieces = tokenizer(), t5_tokenizer()
    network = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=CROSS,
        pooled_projection_dim=CROSS,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    return FluxPipeline(
        vae=vae(4, shift=0.06),
        text_encoder=clip(words),
        text_encoder_2=t5(len(pieces)),
        tokenizer=words,
        tokenizer_2=pieces,
        transformer=network,
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15),
    )


KINDS = {
    "eps": stable_diffusion,
    "v": lambda: stable_diffusion("v_prediction"),
    "xl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "flux": flux,
}


def save(kind: str, folder: Path) -> Path:
    """The pipeline of that kind, in a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers' and its imports' own
        pipe = KINDS[kind]()
        pipe.save_pretrained(folder)
    return folder
