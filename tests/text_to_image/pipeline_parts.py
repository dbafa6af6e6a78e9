"""Parts of tiny pipelines: tokenizers, language models, schedulers and an autoencoder."""

from __future__ import annotations

import string
from typing import Any

import tiny


def words(length: int = 32) -> Any:
    """A tokenizer of single characters, with a template of a chat."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", "<s>", *string.printable]
    model = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    end = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    model.post_processor = end  # as in the real ones, an empty prompt has a token
    found = PreTrainedTokenizerFast(
        tokenizer_object=model,
        model_max_length=length,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>",
    )
    found.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return found


def decoder(kind: str, **more: Any) -> Any:
    """Return a small language model whose hidden states encode the text."""
    import transformers

    sizes = {
        "vocab_size": 128,
        "hidden_size": tiny.CROSS,
        "intermediate_size": 2 * tiny.CROSS,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 0,
        "bos_token_id": 3,
        "eos_token_id": 1,
        **more,
    }
    name = kind.removesuffix("ForCausalLM").removesuffix("Model")
    return getattr(transformers, kind)(getattr(transformers, f"{name}Config")(**sizes)).eval()


def flow(**more: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**more)


def table(kind: str = "DDPMScheduler", **more: Any) -> Any:
    import diffusers

    given = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": False, **more}
    if kind.startswith("DPM"):
        del given["clip_sample"]
    return getattr(diffusers, kind)(**given)


def movq() -> Any:
    from diffusers import VQModel

    return VQModel(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        layers_per_block=1,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
        latent_channels=4,
    )
