"""Tiny pipelines of the classes that have no adapter of their own, and the settings that each takes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pipeline_parts as parts
import tiny
import torch


@dataclass(frozen=True)
class Family:
    """A pipeline class: how a tiny one is made and called.

    ``guidance`` is the guidance scale, ``call`` further arguments of the pipeline's call, ``size`` height and width,
    ``scheduler`` changes of the scheduler's configuration.
    """

    build: Callable[[], Any]
    guidance: float = 4.0
    call: dict[str, Any] = field(default_factory=dict)
    size: int = 16
    scheduler: dict[str, Any] = field(default_factory=dict)


def benchmark() -> Any:
    """The module ``tests/benchmarks/pipelines.py``."""
    path = Path(__file__).parents[1] / "benchmarks/pipelines.py"
    spec = importlib.util.spec_from_file_location("pipelines", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pixart(kind: str = "Sigma") -> Any:
    import diffusers

    network = diffusers.PixArtTransformer2DModel(
        sample_size=tiny.SIZE,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=tiny.CROSS,
        cross_attention_dim=16,
        in_channels=4,
        out_channels=8,
        use_additional_conditions=False,
    )
    return getattr(diffusers, f"PixArt{kind}Pipeline")(
        tokenizer=parts.words(),
        text_encoder=tiny.t5(128),
        vae=tiny.vae(4),
        transformer=network,
        scheduler=parts.table("DPMSolverMultistepScheduler"),
    )


def sana() -> Any:
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

    network = SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=tiny.CROSS,
        sample_size=tiny.SIZE,
    )
    vae = AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    solver = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return SanaPipeline(
        tokenizer=parts.words(),
        text_encoder=parts.decoder("Gemma2Model"),
        vae=vae,
        transformer=network,
        scheduler=solver,
    )


def lumina2() -> Any:
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    network = Lumina2Transformer2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        hidden_size=8,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=1,
        num_kv_heads=1,
        multiple_of=16,
        scaling_factor=1.0,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(300, 512, 512),
        cap_feat_dim=tiny.CROSS,
    )
    return Lumina2Pipeline(
        transformer=network,
        scheduler=parts.flow(),
        vae=tiny.vae(4, 0.06),
        text_encoder=parts.decoder("Gemma2Model"),
        tokenizer=parts.words(),
    )


def auraflow() -> Any:
    from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel

    network = AuraFlowTransformer2DModel(
        sample_size=tiny.SIZE,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=tiny.CROSS,
        pos_embed_max_size=64,
    )
    return AuraFlowPipeline(
        tokenizer=parts.words(),
        text_encoder=tiny.t5(128, kind="UMT5"),
        vae=tiny.vae(4),
        transformer=network,
        scheduler=parts.flow(shift=1.73),
    )


def cogview4() -> Any:
    from diffusers import CogView4Pipeline, CogView4Transformer2DModel

    network = CogView4Transformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=tiny.CROSS,
        time_embed_dim=8,
        condition_dim=4,
        rope_axes_dim=(8, 8),
        sample_size=tiny.SIZE,
    )
    clock = parts.flow(
        base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True, time_shift_type="linear"
    )
    return CogView4Pipeline(
        tokenizer=parts.words(),
        text_encoder=parts.decoder("GlmModel"),
        vae=tiny.vae(4, 0.0),
        transformer=network,
        scheduler=clock,
    )


def cogview3() -> Any:
    from diffusers import CogVideoXDDIMScheduler, CogView3PlusPipeline, CogView3PlusTransformer2DModel

    network = CogView3PlusTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        out_channels=4,
        text_embed_dim=tiny.CROSS,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=8,
        sample_size=tiny.SIZE,
    )
    return CogView3PlusPipeline(
        tokenizer=parts.words(16),
        text_encoder=tiny.t5(128),
        vae=tiny.vae(4),
        transformer=network,
        scheduler=CogVideoXDDIMScheduler(),
    )


def hunyuan_dit() -> Any:
    from diffusers import HunyuanDiT2DModel, HunyuanDiTPipeline
    from transformers import BertConfig, BertModel

    network = HunyuanDiT2DModel(
        sample_size=tiny.SIZE,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        in_channels=4,
        hidden_size=24,
        cross_attention_dim=tiny.CROSS,
        cross_attention_dim_t5=tiny.CROSS,
        pooled_projection_dim=16,
        text_len=77,
        text_len_t5=256,
        activation_fn="gelu-approximate",
    )
    bert = BertConfig(
        vocab_size=128,
        hidden_size=tiny.CROSS,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    return HunyuanDiTPipeline(
        vae=tiny.vae(4),
        text_encoder=BertModel(bert).eval(),
        tokenizer=parts.words(77),
        transformer=network,
        scheduler=parts.table(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=tiny.t5(128),
        tokenizer_2=parts.words(256),
    )


def kandinsky() -> Any:
    """Kandinsky 2.2: the prior and the decoder in one pipeline."""
    from diffusers import KandinskyV22CombinedPipeline, PriorTransformer, UnCLIPScheduler, UNet2DConditionModel
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    network = UNet2DConditionModel(
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        encoder_hid_dim=tiny.CROSS,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=tiny.CROSS,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type=None,
    )
    names = tiny.tokenizer(77)
    prior = PriorTransformer(num_attention_heads=2, attention_head_dim=8, embedding_dim=tiny.CROSS, num_layers=1)
    vision = CLIPVisionConfig(
        hidden_size=16,
        image_size=32,
        projection_dim=tiny.CROSS,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=1,
        patch_size=16,
    )
    solver = UnCLIPScheduler(
        variance_type="fixed_small_log", prediction_type="sample", num_train_timesteps=1000, clip_sample_range=10.0
    )
    return KandinskyV22CombinedPipeline(
        unet=network,
        scheduler=parts.table("DDPMScheduler", variance_type="learned_range"),
        movq=parts.movq(),
        prior_prior=prior,
        prior_image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        prior_text_encoder=tiny.clip(names, projected=True).eval(),
        prior_tokenizer=names,
        prior_scheduler=solver,
        prior_image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    )


def kandinsky3() -> Any:
    from diffusers import Kandinsky3Pipeline, Kandinsky3UNet

    network = Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=4,
        groups=2,
        attention_head_dim=4,
        layers_per_block=3,
        block_out_channels=(8, 16),
        cross_attention_dim=4,
        encoder_hid_dim=tiny.CROSS,
    )
    return Kandinsky3Pipeline(
        tokenizer=parts.words(128), text_encoder=tiny.t5(128), unet=network, scheduler=parts.table(), movq=parts.movq()
    )


def chroma() -> Any:
    from diffusers import ChromaPipeline, ChromaTransformer2DModel

    network = ChromaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=tiny.CROSS,
        axes_dims_rope=(4, 4, 8),
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    return ChromaPipeline(
        scheduler=parts.flow(),
        vae=tiny.vae(4, 0.06),
        text_encoder=tiny.t5(128),
        tokenizer=parts.words(),
        transformer=network,
    )


def flux2_klein() -> Any:
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel

    network = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=2 * tiny.CROSS,
        timestep_guidance_channels=64,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    return Flux2KleinPipeline(
        scheduler=parts.flow(),
        vae=vae,
        text_encoder=parts.decoder("Qwen3ForCausalLM"),
        tokenizer=parts.words(64),
        transformer=network,
        is_distilled=False,
    )


def qwen_image() -> Any:
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    network = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=tiny.CROSS,
        guidance_embeds=False,
        axes_dims_rope=(8, 4, 4),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    text = {
        "hidden_size": tiny.CROSS,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 128,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
    }
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return QwenImagePipeline(
        scheduler=parts.flow(),
        vae=vae,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=parts.words(1024),
        transformer=network,
    )


def z_image() -> Any:
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    network = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=16,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=1,
        n_kv_heads=1,
        qk_norm=True,
        cap_feat_dim=tiny.CROSS,
        rope_theta=256.0,
        t_scale=1000.0,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    for name, tensor in network.named_parameters():  # its padding is made without values
        if "pad_token" in name:
            torch.nn.init.normal_(tensor)
    return ZImagePipeline(
        scheduler=parts.flow(),
        vae=tiny.vae(4, 0.0),
        text_encoder=parts.decoder("Qwen3Model"),
        tokenizer=parts.words(),
        transformer=network,
    )


def wan() -> Any:
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

    network = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=tiny.CROSS,
        freq_dim=32,
        ffn_dim=16,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    solver = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return WanPipeline(
        tokenizer=parts.words(),
        text_encoder=tiny.t5(128, kind="UMT5"),
        vae=vae,
        scheduler=solver,
        transformer=network,
        transformer_2=None,
    )


def stable_audio() -> Any:
    from diffusers import (
        AutoencoderOobleck,
        EDMDPMSolverMultistepScheduler,
        StableAudioDiTModel,
        StableAudioPipeline,
        StableAudioProjectionModel,
    )

    network = StableAudioDiTModel(
        sample_size=4,
        in_channels=3,
        num_layers=2,
        attention_head_dim=4,
        num_key_value_attention_heads=2,
        out_channels=3,
        cross_attention_dim=4,
        time_proj_dim=8,
        global_states_input_dim=8,
        cross_attention_input_dim=4,
        num_attention_heads=2,
    )
    vae = AutoencoderOobleck(
        encoder_hidden_size=6,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=3,
        audio_channels=2,
        channel_multiples=[2, 4],
        sampling_rate=4,
    )
    return StableAudioPipeline(
        vae=vae,
        text_encoder=tiny.t5(128),
        projection_model=StableAudioProjectionModel(
            text_encoder_dim=tiny.CROSS, conditioning_dim=4, min_value=0, max_value=32
        ),
        tokenizer=parts.words(),
        transformer=network,
        scheduler=EDMDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_data=1.0),
    )


PLAIN = {"use_resolution_binning": False}
EVEN = {"timestep_spacing": "leading"}
FAMILIES = {
    "PixArt-Sigma": Family(pixart, call=PLAIN, scheduler=EVEN),
    "PixArt-Alpha": Family(lambda: pixart("Alpha"), call=PLAIN, scheduler=EVEN),
    "Sana": Family(sana, size=32, call={**PLAIN, "complex_human_instruction": None}),
    "Lumina 2": Family(lumina2),
    "Lumina 2, plain guidance": Family(lumina2, call={"cfg_normalization": False}),
    "AuraFlow": Family(auraflow),
    "CogView3+": Family(cogview3),
    "CogView4": Family(cogview4, size=32),
    "HunyuanDiT": Family(hunyuan_dit, call=PLAIN),
    "Kandinsky 2.2": Family(kandinsky, size=32, call={"prior_num_inference_steps": 2}),
    "Kandinsky 3": Family(kandinsky3, size=32),
    "Chroma": Family(chroma, size=32),
    "FLUX.2 Klein": Family(flux2_klein, size=32, call={"text_encoder_out_layers": (0, 1)}),
    "Qwen-Image": Family(qwen_image, size=32),
    "Qwen-Image, no guidance": Family(qwen_image, guidance=1.0, size=32),
    "Z-Image": Family(z_image, size=32),
    "Wan": Family(wan, call={"num_frames": 1}),
    "Stable Audio": Family(stable_audio),
}
