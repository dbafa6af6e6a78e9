"""Pipelines, prompts and schedulers that cannot be used are refused in one sentence."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import tiny
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from domains.images import pretrained
from domains.images.autoencoder import Autoencoder
from domains.images.text import Guidance, TextToImage, distilled
from domains.images.text.adapters import RecordedAdapter
from domains.images.text.process import sampling_scheduler
from graft import GraftError


def refused(weights: object, says: str, prompts: str = "prompts.txt", **settings: Any) -> None:
    with pytest.raises(GraftError, match=says) as error:
        TextToImage(str(weights), prompts, **{"steps": 8, **settings})
    assert "\n" not in str(error.value)


def changed(source: Path, target: Path, name: str, **values: Any) -> Path:
    """A copy of a pipeline with one of its JSON files changed."""
    shutil.copytree(source, target)
    path = target / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return target


def test_no_pipeline(folder: Path, pipelines: dict[str, Path]) -> None:
    (folder / "empty").mkdir()
    refused("empty", "is no diffusers pipeline: it has no model_index.json")
    refused("./nowhere", "there is no folder of a diffusers pipeline at './nowhere'")
    refused("prompts.txt", "there is no folder of a diffusers pipeline")
    refused("no-such-owner/no-such-model", "cannot be had from the hub")
    refused(pipelines["eps"] / "unet", "it has no model_index.json")
    other = changed(pipelines["eps"], folder / "other", "model_index.json", unet=["diffusers", "AutoencoderKL"])
    index = json.loads((other / "model_index.json").read_text())
    index |= {"_class_name": "StableCascadeDecoderPipeline", "decoder": index.pop("unet")}
    (other / "model_index.json").write_text(json.dumps(index))
    refused(other, "is a StableCascadeDecoderPipeline, which has no component transformer or unet; name its denoiser")
    twice = changed(pipelines["eps"], folder / "twice", "model_index.json", _class_name="WanPipeline")
    index = json.loads((twice / "model_index.json").read_text())
    (twice / "model_index.json").write_text(json.dumps({**index, "unet_2": index["unet"]}))
    refused(twice, "has two denoisers, unet and unet_2, and graft tunes one network")
    (folder / "empty" / "model_index.json").write_text("{")
    refused("empty", "model_index.json is damaged")
    (folder / "one.SAFETENSORS").write_bytes(b"")
    refused("one.SAFETENSORS", "is a single file without configurations")
    (folder / "one.SAFETENSORS").rename(folder / "empty" / "v1-5.safetensors")
    (folder / "empty" / "model_index.json").unlink()
    refused("empty", "has no model_index.json; .*, or v1-5.safetensors in it with model.single_file_config")
    (folder / "one.safetensors").write_bytes(b"")
    refused("one.safetensors", "is a single file without configurations: set model.single_file_config to a folder")
    one = {"single_file_config": str(pipelines["eps"])}
    refused("one.safetensors", "cannot be loaded with the configurations of", **one)
    refused(pipelines["v"], "single_file_config is set, and model.weights, .* is no single file", **one)


def test_packages_that_are_missing(pipelines: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    absent = {"transformers", "accelerate"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find(name))
    refused(
        pipelines["eps"],
        r"text-to-image needs transformers, accelerate: pip install 'graft-diffusion\[text-to-image\]'",
    )


def test_home(folder: Path, pipelines: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` is the home, as in a shell."""
    monkeypatch.setenv("HOME", str(pipelines["eps"].parent))
    assert TextToImage(f"~/{pipelines['eps'].name}", "prompts.txt", steps=4)._pipeline.path == str(pipelines["eps"])


def test_distilled_models(folder: Path, pipelines: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Distilled models are known by name or configuration; unsuitable settings are printed, others are not."""
    turbo = shutil.copytree(pipelines["eps"], folder / "sd-turbo")
    TextToImage(str(turbo), "prompts.txt", steps=10, guidance=Guidance(3.0))
    assert "looks distilled to few steps (its name has 'turbo'), and model.steps is 10 and" in capsys.readouterr().out
    TextToImage(str(turbo), "prompts.txt", steps=4, guidance=Guidance(1.0))
    TextToImage(str(pipelines["eps"]), "prompts.txt", steps=10)
    assert "distilled" not in capsys.readouterr().out
    assert distilled.signs("x", SimpleNamespace(config={"is_distilled": True}), None)
    plain = SimpleNamespace(config={})
    for name in ("LCM_Dreamshaper_v7", "hub/models--stabilityai--sd-turbo/snapshots/0a1b", "sdxl_4step.safetensors"):
        assert distilled.signs(name, plain, None), name
    for name in ("/lightning/studio/stable-diffusion-2", "calcml", "sd-v1-4", "model-1024steps"):
        assert distilled.signs(name, plain, None) is None, name
    for path in ("lcm-lora-sdv1-5/pytorch_lora_weights.safetensors", "Hyper-SD15-8steps-lora.safetensors"):
        assert "the name of its adapter" in str(distilled.signs("x", plain, None, path))


def test_missing_component(folder: Path, pipelines: dict[str, Path]) -> None:
    for part in ("vae", "tokenizer", "text_encoder", "unet"):
        copy = shutil.copytree(pipelines["eps"], folder / part)
        shutil.rmtree(copy / part)
        refused(copy, f"lacks its component '{part}'")
    null = changed(pipelines["sd3"], folder / "null", "model_index.json", text_encoder_2=[None, None])
    refused(null, "lacks its component 'text_encoder_2'")


@pytest.mark.parametrize(
    ("kind", "gone", "says"),
    [
        ("eps", "tokenizer/tokenizer.json", "the tokenizer of .* has no vocabulary: it needs tokenizer.json or vocab"),
        ("eps", "tokenizer/*", "the tokenizer of .* has no vocabulary"),
        ("eps", "tokenizer/tokenizer_config.json", "the tokenizer of .* has no tokenizer_config.json"),
        ("flux", "tokenizer_2/tokenizer.json", "the tokenizer_2 of .* has no vocabulary: it needs .* spiece.model"),
        ("eps", "text_encoder/config.json", "the text_encoder of .* has no config.json"),
        ("eps", "unet/config.json", "the unet of .* has no config.json"),
        ("eps", "scheduler/*", "the scheduler of .* cannot be loaded"),
    ],
)
def test_missing_files(kind: str, gone: str, says: str, folder: Path, pipelines: dict[str, Path]) -> None:
    """transformers makes a tokenizer without words, or a default configuration, where files are missing."""
    copy = shutil.copytree(pipelines[kind], folder / "copy")
    for file in copy.glob(gone):
        file.unlink()
    refused(copy, says)


@pytest.mark.parametrize("adapter", [None, RecordedAdapter()])
def test_missing_scheduler(adapter: Any, folder: Path, pipelines: dict[str, Path]) -> None:
    for i, value in enumerate(([None, None], "ddim", None)):
        copy = changed(pipelines["eps"], folder / f"{i}", "model_index.json", scheduler=value)
        refused(copy, "lacks its component 'scheduler'", adapter=adapter)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_finite(part: str, folder: Path, pipelines: dict[str, Path]) -> None:
    copy = shutil.copytree(pipelines["eps"], folder / "copy")
    (file,) = (copy / part).glob("*.safetensors")
    tensors = load_file(file)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[-1] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    refused(copy, f"the {part} of .* has values in .* that are not finite: fetch or save it again")


def test_damaged_weights(folder: Path, pipelines: dict[str, Path]) -> None:
    copy = shutil.copytree(pipelines["eps"], folder / "copy")
    for file in (copy / "unet").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:1000])
    refused(copy, "cannot be loaded as a diffusers pipeline")


def without(source: Path, target: Path, part: str, name: str) -> Path:
    """A copy of a pipeline with a tensor missing in the file of a part."""
    shutil.copytree(source, target)
    (file,) = (target / part).glob("*.safetensors")
    tensors = load_file(file)
    del tensors[next(each for each in tensors if name in each)]
    save_file(tensors, file, metadata={"format": "pt"})
    return target


@pytest.mark.parametrize(
    ("kind", "part", "name"),
    [
        ("eps", "unet", "conv_in.weight"),
        ("eps", "unet", "attn1.to_q.weight"),
        ("eps", "vae", "decoder.conv_out.bias"),
        ("eps", "text_encoder", "q_proj.weight"),
        ("eps", "text_encoder", "token_embedding"),
        ("eps", "text_encoder", "final_layer_norm"),
        ("xl", "text_encoder_2", "text_projection"),
        ("sd3", "transformer", "pos_embed.proj"),
        ("flux", "text_encoder_2", "layer_norm"),
    ],
)
def test_missing_tensors(kind: str, part: str, name: str, folder: Path, pipelines: dict[str, Path]) -> None:
    """The libraries would continue with random tensors, or with ones on the meta device."""
    copy = without(pipelines[kind], folder / "copy", part, name)
    refused(copy, rf"the {part} of .* lacks 1 of its tensors \(first: .*{name}.*\): fetch or save it again")


def test_missing_file_and_shard(folder: Path, pipelines: dict[str, Path]) -> None:
    for part in ("unet", "vae", "text_encoder"):
        copy = shutil.copytree(pipelines["eps"], folder / part)
        for file in (copy / part).glob("*.safetensors"):
            file.unlink()
        refused(copy, f"the {part} of .* has no weights")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(pipelines["eps"])
    pipe.save_pretrained(folder / "shards", max_shard_size="20KB")
    next((folder / "shards" / "unet").glob("*-00002-of-*.safetensors")).unlink()
    refused(folder / "shards", "cannot be loaded as a diffusers pipeline")


def test_tensors_on_the_meta_device() -> None:
    with torch.device("meta"):
        network = torch.nn.Linear(2, 2)
    with pytest.raises(GraftError, match="the unet of x has no values for weight"):
        pretrained.check_values(network, "the unet of x")


def test_tensors_of_other_shapes(folder: Path, pipelines: dict[str, Path]) -> None:
    for part, name, value in (("unet", "cross_attention_dim", 8), ("vae", "latent_channels", 8)):
        copy = changed(pipelines["eps"], folder / part, f"{part}/config.json", **{name: value})
        refused(copy, "cannot be loaded|other shapes|channels, but its latents have 8")


def test_adapters_that_are_not_fused(folder: Path, pipelines: dict[str, Path]) -> None:
    """In the network, next to it, and next to the pipeline: diffusers would ignore them without a message."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(pipelines["eps"])
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    pipe.save_pretrained(folder / "inside")
    refused(folder / "inside", "the unet of .* was saved with a LoRA adapter that is not fused")
    for i, name in enumerate(
        ("pytorch_lora_weights.safetensors", "unet/adapter_config.json", "vae/adapter_config.json")
    ):
        copy = shutil.copytree(pipelines["eps"], folder / str(i))
        (copy / name).write_text("{}")
        refused(copy, f"has a LoRA adapter next to its weights .*{Path(name).name}.*, which is not fused")


@pytest.mark.parametrize("channels", [8, 9])
def test_models_that_are_given_a_picture(channels: int, folder: Path, pipelines: dict[str, Path]) -> None:
    """Inpainting (nine channels), editing by instruction (eight)."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(pipelines["eps"])
    pipe.unet = tiny.unet(in_channels=channels)
    pipe.save_pretrained(folder / "inpainting")
    refused(folder / "inpainting", f"the unet of .* takes {channels} channels, but its latents have 4")
    pipe.unet = tiny.unet(out_channels=8)
    pipe.save_pretrained(folder / "variance")
    refused(folder / "variance", "the unet of .* gives 8 channels")


def test_variants(folder: Path, pipelines: dict[str, Path]) -> None:
    refused(pipelines["eps"], "model.variant is 'fp16', and .* has no such weights: it has no variants", variant="fp16")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(pipelines["eps"])
    pipe.save_pretrained(folder / "half", variant="fp16")
    refused(folder / "half", "the unet of .* has weights of the variant fp16 alone: set model.variant to fp16")
    refused(folder / "half", "no such weights: there is fp16", variant="bf16")
    copy = shutil.copytree(pipelines["eps"], folder / "some")  # one part has the variant, the others have not
    shutil.copy(folder / "half/vae/diffusion_pytorch_model.fp16.safetensors", copy / "vae")
    assert TextToImage(str(copy), "prompts.txt", steps=8, variant="fp16")
    (copy / "vae/diffusion_pytorch_model.safetensors").unlink()
    refused(copy, "the vae of .* has weights of the variant fp16 alone")


def test_what_can_be_left_out(pipelines: dict[str, Path]) -> None:
    for name in ("unet", "text_encoder_9"):
        refused(pipelines["eps"], f"model.skip_components has '{name}'; it may have", skip_components=[name])


def test_autoencoder_that_lacks_tensors(folder: Path, pipelines: dict[str, Path]) -> None:
    copy = without(pipelines["eps"], folder / "copy", "vae", "decoder.conv_in.bias")
    with pytest.raises(GraftError, match=r"the autoencoder in .* lacks 1 of its tensors"):
        Autoencoder(str(copy / "vae"))


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("LCMScheduler", {}, "LCMScheduler cannot be mapped to alpha and sigma: it samples a model that is distilled"),
        ("EDMEulerScheduler", {}, "EDMEulerScheduler cannot be mapped"),
        ("DDIMScheduler", {"clip_sample": True}, "clip_sample is set"),
        ("DDPMScheduler", {"thresholding": True, "clip_sample": False}, "thresholding is set"),
        ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}, "stochastic_sampling is set"),
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, "invert_sigmas is set"),
    ],
)
def test_scheduler_that_cannot_be_mapped(kind: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(GraftError, match=says):
        sampling_scheduler(getattr(diffusers, kind)(**given))


def test_scheduler_of_a_pipeline_that_cannot_be_mapped(folder: Path, pipelines: dict[str, Path]) -> None:
    other = shutil.copytree(pipelines["eps"], folder / "other")
    diffusers.LCMScheduler().save_pretrained(other / "scheduler")
    index = json.loads((other / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "LCMScheduler"]
    (other / "model_index.json").write_text(json.dumps(index))
    refused(
        other, "the pipeline's LCMScheduler cannot be mapped to alpha and sigma: it samples a model that is distilled"
    )
    refused(pipelines["eps"], "which DDIMScheduler does not know", scheduler={"spacing": "trailing"})


def test_settings(pipelines: dict[str, Path]) -> None:
    path = pipelines["eps"]
    for size in (17, 20, 4, -16):  # diffusers' own call takes multiples of 8
        refused(path, f"model.height is {size} pixels; it must be a multiple of 8", height=size)
    refused(pipelines["sd3"], "model.width is 64 pixels; the network takes at most 32", width=64)
    refused(path, "model.dtype is 'half'", dtype="half")
    refused(path, "lost to rounding: use model.lora", dtype="bfloat16")
    refused(path, "model.steps is 0", steps=0)
    refused(path, "num_images_per_prompt", num_images_per_prompt=0)
    for given, says in ((0.5, "is 0.5; it must be at least 1"), (float("nan"), "is nan")):
        with pytest.raises(GraftError, match=says):
            Guidance(given)


def test_prompts(folder: Path, pipelines: dict[str, Path]) -> None:
    path = pipelines["eps"]
    for name, text, says in (
        ("empty.txt", "\n \n", "there are no prompts in"),
        ("empty.csv", "prompt\n", "there are no prompts in"),
        ("wrong.csv", "sentence,id\na dog,1\n", "no column 'prompt' or 'caption' or 'text'.*are: sentence, id"),
        ("wrong.jsonl", '{"sentence": "a dog"}\n', "no column 'prompt'"),
        ("broken.jsonl", '{"prompt": "a dog"}\n{"prompt":\n', "line 2 of .* is not JSON"),
        ("broken.json", "[", "is not a JSON file"),
        ("number.json", "3", "holds int, not a list"),
        ("numbers.json", "[3]", "has a prompt that is int"),
        ("prompts.parquet", "x", "are read from .txt, .csv"),
    ):
        (folder / name).write_text(text)
        refused(path, says, name)
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00\xd8")
    refused(path, "is not text", "binary.txt")
    refused(path, "there is no file 'nowhere.txt'", "nowhere.txt")
    refused(path, "no column 'title'", "prompts.json", **{"prompt_column": "title"}) if (
        (folder / "prompts.json").write_text('[{"prompt": "a dog"}]')
    ) else None


def test_tiny_is_loaded_from_files(pipelines: dict[str, Path]) -> None:
    """The other tests load files from the disk, as users do."""
    for kind in tiny.KINDS:
        assert (pipelines[kind] / "model_index.json").exists()
        assert list(pipelines[kind].glob("*/*.safetensors"))
