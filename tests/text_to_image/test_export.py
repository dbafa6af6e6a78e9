"""The exported folder: other tools' formats, a hand-over that touches its own adapter alone, a model card."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from domains.images.text import FusedLoRA, Guidance, TextToImage, comfyui, kohya
from domains.images.text.handover import handover
from graft import GraftError
from graft.network import LoRA

SEVERAL = pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
"""Of tests that give a network two adapters on purpose."""
LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "conv1", "time_emb_proj"]


NODES = {  # ComfyUI's core nodes: the inputs that they need, the ones that they may have, and the number of outputs
    "CheckpointLoaderSimple": ({"ckpt_name"}, set(), 3),
    "CLIPTextEncode": ({"clip", "text"}, set(), 1),
    "CreateHookLoraModelOnly": ({"lora_name", "strength_model"}, {"prev_hooks"}, 1),
    "CreateHookKeyframe": ({"strength_mult", "start_percent"}, {"prev_hook_kf"}, 1),
    "SetHookKeyframes": ({"hooks"}, {"hook_kf"}, 1),
    "PairConditioningSetProperties": (
        {"positive_NEW", "negative_NEW", "strength", "set_cond_area"},
        {"opt_mask", "opt_hooks", "opt_timesteps"},
        2,
    ),
    "EmptyLatentImage": ({"width", "height", "batch_size"}, set(), 1),
    "KSampler": (
        {
            *{"model", "seed", "steps", "cfg", "sampler_name", "scheduler"},
            *{"positive", "negative", "latent_image", "denoise"},
        },
        set(),
        1,
    ),
    "VAEDecode": ({"samples", "vae"}, set(), 1),
    "SaveImage": ({"images", "filename_prefix"}, set(), 0),
}


def exported(path: Path, folder: Path, **settings: Any) -> Path:
    torch.manual_seed(0)
    lora = {"lora": LoRA(2, 4, LAYERS), "level": 0.5, **settings}
    model = TextToImage(str(path), "prompts.txt", steps=4, guidance=Guidance(3.0, negative_prompt="blurry"), **lora)
    for name, parameter in model.policy.backbone.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.export(folder / "run")
    return folder / "run/diffusers"


@SEVERAL
@pytest.mark.parametrize("kind", ["eps", "xl"])
def test_kohyas_keys(kind: str, pipelines: dict[str, Path], folder: Path) -> None:
    """Every key has the published form, and diffusers' own reader of that form finds the same adapter."""
    run = exported(pipelines[kind], folder)
    theirs = load_file(run / "comfyui/graft_lora.safetensors")
    form = r"lora_unet_[a-z0-9_]+\.(alpha|lora_down\.weight|lora_up\.weight)"
    assert theirs and all(re.fullmatch(form, name) for name in theirs)
    blocks = {name.removeprefix("lora_unet_").split("_attentions")[0].split("_1_")[0] for name in theirs}
    assert any(block.startswith("input_blocks" if kind == "xl" else "down_blocks") for block in blocks)
    for name in theirs:
        if name.endswith("alpha"):  # the scale alpha / rank is 1, since it is in the weights
            assert float(theirs[name]) == theirs[name.replace("alpha", "lora_down.weight")].shape[0]
    pipe: Any = DiffusionPipeline.from_pretrained(pipelines[kind])
    plain = {key: value for key, value in load_file(run / "pytorch_lora_weights.safetensors").items()}
    pipe.load_lora_weights(run, adapter_name="a")
    pipe.load_lora_weights(run / "comfyui", weight_name="graft_lora.safetensors", adapter_name="b")
    found = {name: value for name, value in pipe.unet.state_dict().items() if ".lora_" in name}
    mine = {name: value for name, value in found.items() if ".a.weight" in name}
    assert len(mine) == len(plain)
    for name, value in mine.items():
        torch.testing.assert_close(found[name.replace(".a.weight", ".b.weight")], value)
    for layer in pipe.unet.modules():
        if hasattr(layer, "scaling"):
            assert layer.scaling["a"] == layer.scaling["b"] == 1


def test_stabilitys_names() -> None:
    """SDXL's layers by the names of the published code, as in its checkpoints."""

    class Config:
        layers_per_block = 2
        up_block_types = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")

    for ours, theirs in (
        ("down_blocks.0.resnets.0.conv1", "input_blocks.1.0.in_layers_2"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        (
            "down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q",
            "input_blocks.5.1.transformer_blocks.0.attn1.to_q",
        ),
        ("down_blocks.2.attentions.0.proj_in", "input_blocks.7.1.proj_in"),
        ("mid_block.attentions.0.transformer_blocks.3.ff.net.2", "middle_block.1.transformer_blocks.3.ff.net.2"),
        ("mid_block.resnets.1.time_emb_proj", "middle_block.2.emb_layers_1"),
        (
            "up_blocks.0.attentions.2.transformer_blocks.9.attn2.to_k",
            "output_blocks.2.1.transformer_blocks.9.attn2.to_k",
        ),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
        ("up_blocks.2.resnets.1.conv_shortcut", "output_blocks.7.0.skip_connection"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("conv_in", "input_blocks.0.0"),
    ):
        assert kohya.stability_name(ours, Config()) == theirs


def test_workflow(pipelines: dict[str, Path], folder: Path) -> None:
    """Core nodes link to nodes; the clock of ComfyUI passes the switch between the right two steps."""
    run = exported(pipelines["eps"], folder)
    nodes = json.loads((run / "comfyui/workflow.json").read_text())
    for node in nodes.values():
        needed, may, _ = NODES[node["class_type"]]
        assert needed <= node["inputs"].keys() <= needed | may
        for value in node["inputs"].values():
            if isinstance(value, list):
                assert value[1] < NODES[nodes[value[0]]["class_type"]][2]
    assert any(node["inputs"].get("opt_hooks") for node in nodes.values())
    kinds = {node["class_type"]: node["inputs"] for node in nodes.values()}
    assert kinds["CreateHookLoraModelOnly"]["lora_name"] == "graft_lora.safetensors"
    assert kinds["KSampler"]["steps"] == 4 and kinds["KSampler"]["cfg"] == 3.0
    off = next(n["inputs"] for n in nodes.values() if n["inputs"].get("strength_mult") == 0)
    scheduler = tiny.scheduler()
    scheduler.set_timesteps(4)
    on = [1 - time / 999 < off["start_percent"] for time in scheduler.timesteps.tolist()]
    assert on == [True, True, False, False]
    for level, first in ((0.25, 3), (0.75, 1)):
        percent = comfyui.start_percent(tiny.scheduler(), 4, level)
        assert sum(1 - time / 999 < percent for time in scheduler.timesteps.tolist()) == first


@SEVERAL
def test_handover_is_of_its_own_adapter(pipelines: dict[str, Path], folder: Path) -> None:
    """Another adapter stays on, and an interrupted call leaves nothing off for the next one."""
    run = exported(pipelines["eps"], folder)
    pipe: Any = StableDiffusionPipeline.from_pretrained(pipelines["eps"])
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(run, adapter_name="graft")
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False), adapter_name="style")
    pipe.set_adapters(["graft", "style"])
    layer = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q
    call = {"num_inference_steps": 4, "output_type": "latent", "guidance_scale": 3.0}
    active: list[list[str]] = []

    def sample(interrupted: bool = False, level: float = 0.5, callback: Any = None) -> torch.Tensor:
        inner = callback or handover(pipe, level)

        def outer(pipe: Any, step: int, time: Any, given: dict[str, Any]) -> dict[str, Any]:
            found = inner(pipe, step, time, given)
            active.append(sorted(layer.active_adapters))
            if interrupted and step == 2:
                raise KeyboardInterrupt
            return found

        generator = torch.Generator().manual_seed(0)
        images: torch.Tensor = pipe("a dog", **call, generator=generator, callback_on_step_end=outer).images
        return images

    first = sample()
    assert active == [["graft", "style"], ["style"], ["style"], ["graft", "style"]]
    with pytest.raises(KeyboardInterrupt):
        sample(interrupted=True)
    assert sorted(layer.active_adapters) == ["style"]
    torch.testing.assert_close(sample(), first)
    callback = handover(pipe, 0.5)  # of several calls
    with pytest.raises(KeyboardInterrupt):
        sample(interrupted=True, callback=callback)
    torch.testing.assert_close(sample(callback=callback), first)
    assert float((sample(level=0.0) - first).abs().max()) > 1e-3
    with pytest.raises(KeyboardInterrupt):
        sample(interrupted=True)
    whole = pipe("a dog", **call, generator=torch.Generator().manual_seed(0)).images  # without a hand-over
    torch.testing.assert_close(whole, sample(level=0.0))


def test_model_card(pipelines: dict[str, Path], folder: Path) -> None:
    """The metadata are YAML; the lines run in the folder and give a picture; also for a whole network."""
    for number, (settings, kind) in enumerate((({}, "lora"), ({"lora": None}, "full-network"))):
        run = exported(pipelines["eps"], folder / str(number), **settings)
        _, metadata, text = (run / "README.md").read_text(encoding="utf-8").split("---\n", 2)
        about = yaml.safe_load(metadata)
        assert about["library_name"] == "diffusers" and kind in about["tags"] and "base_model" not in about
        assert str(folder) not in text
        (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        names: dict[str, Any] = {}
        exec(compile(lines.replace('run = "."', f"run = {str(run)!r}"), "card", "exec"), names)
        assert names["image"].size == (2 * tiny.SIZE, 2 * tiny.SIZE)
        assert (run / "unet/config.json").exists() is (kind == "full-network")


def test_adapters_of_pipelines_without_a_loader(pipelines: dict[str, Path], folder: Path) -> None:
    """The same file as diffusers' own writer, which the network itself can load."""
    from domains.images.text import export

    run = exported(pipelines["eps"], folder)
    own = load_file(run / "pytorch_lora_weights.safetensors")
    adapter = {name.removeprefix("unet."): value for name, value in own.items()}
    (folder / "other").mkdir()
    export._write_adapter(object(), "unet", adapter, folder / "other")
    other = load_file(folder / "other/pytorch_lora_weights.safetensors")
    assert own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)


def test_handover_file_needs_diffusers_alone(pipelines: dict[str, Path], folder: Path) -> None:
    run = exported(pipelines["eps"], folder)
    spec = importlib.util.spec_from_file_location("alone", run / "handover.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "domains" not in (run / "handover.py").read_text() and callable(module.handover)


def test_fused_adapter(pipelines: dict[str, Path], folder: Path) -> None:
    """An adapter as the reference: the network is the pipeline's with the adapter, and the next one adds to it."""
    first = exported(pipelines["eps"], folder, level=0.0)
    fused = FusedLoRA(str(first / "pytorch_lora_weights.safetensors"), 0.5)
    model = TextToImage(str(pipelines["eps"]), "prompts.txt", steps=4, fused_lora=fused, lora=LoRA(2, 2, ["to_q"]))
    pipe: Any = StableDiffusionPipeline.from_pretrained(pipelines["eps"])
    pipe.load_lora_weights(first, adapter_name="first")
    pipe.set_adapters("first", 0.5)
    x, time = torch.randn(1, 4, tiny.SIZE, tiny.SIZE), torch.tensor([500.0])
    given = {"encoder_hidden_states": torch.randn(1, 16, tiny.CROSS)}
    with torch.no_grad():
        expected = pipe.unet(x, time, **given).sample
        found = model._pipeline.network(x, time, **given).sample
        pipe.disable_lora()
        plain = pipe.unet(x, time, **given).sample
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert float((found - plain).abs().max()) > 1e-3
    bare = TextToImage(str(pipelines["eps"]), "prompts.txt", steps=4, lora=LoRA(2, 2, ["to_q"]))
    assert model._pipeline.sha256 != bare._pipeline.sha256
    model.export(folder / "second")
    about = json.loads((folder / "second/diffusers/graft.json").read_text())
    assert about["fused_lora"] == {"path": fused.path, "scale": 0.5}
    assert "pipe.fuse_lora" in (folder / "second/diffusers/README.md").read_text()
    with pytest.raises(GraftError, match=r"model.fused_lora.path is 'nowhere'; it must be a file or folder"):
        TextToImage(str(pipelines["eps"]), "prompts.txt", steps=4, fused_lora=FusedLoRA("nowhere"))
    with pytest.raises(GraftError, match=r"cannot be loaded|has nothing for the unet"):
        TextToImage(str(pipelines["eps"]), "prompts.txt", steps=4, fused_lora=FusedLoRA("prompts.txt"))
    with pytest.raises(GraftError, match=r"fused_lora.scale is nan; it must be finite"):
        FusedLoRA("prompts.txt", float("nan"))


def test_adapters_that_fit_in_part(pipelines: dict[str, Path], folder: Path) -> None:
    """diffusers leaves out the tensors of layers that are not there; other files of kohya's form fit as a whole."""
    run = exported(pipelines["eps"], folder)
    tensors = load_file(run / "pytorch_lora_weights.safetensors")
    some = next(iter(tensors)).partition(".lora_")[0]
    more = {
        name.replace("mid_block.attentions.0", "mid_block.attentions.5"): value.clone()
        for name, value in tensors.items()
        if name.startswith("unet.mid_block.attentions.0")
    }
    broken = {name: value * float("nan") if name.startswith(some) else value for name, value in tensors.items()}
    for content, says in (
        ({**tensors, **more}, f"{len(more)} of the {len(more) + len(tensors)} tensors of the adapter .* fit no layer"),
        (broken, "the adapter .* in the unet has values in .* that are not finite"),
    ):
        save_file(content, folder / "adapter.safetensors")
        with pytest.raises(GraftError, match=says):
            TextToImage(str(pipelines["eps"]), "prompts.txt", steps=4, fused_lora=FusedLoRA("adapter.safetensors"))
    kohyas = FusedLoRA(str(run / "comfyui" / "graft_lora.safetensors"))
    assert TextToImage(str(pipelines["eps"]), "prompts.txt", steps=4, fused_lora=kohyas)
