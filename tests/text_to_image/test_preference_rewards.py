"""Rewards of human preference: tiny models with the published tensor names, against their authors' definitions."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from torch import Tensor, nn

from domains.images.rewards import AestheticScore, CLIPScore, HPSv2, ImageReward
from domains.images.rewards.hps import padded
from domains.images.rewards.image_reward import MEAN, STD
from graft import GraftError

SIZE, PATCH, WIDTH = 16, 8, 16


def picture(seed: int, prompt: str | None = "a red ball", shape: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    pixels = torch.randint(0, 256, (shape[1], shape[0], 3), generator=torch.Generator().manual_seed(seed))
    image = Image.fromarray(pixels.to(torch.uint8).numpy())
    if prompt is not None:
        image.info["prompt"] = prompt
    return image


PICTURES = [picture(0), picture(1), picture(2, "a dog", (24, 16)), picture(3, "no dog " * 9)]


def preprocessing() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})


def pixels_of(image: Image.Image) -> Tensor:
    return preprocessing()(images=image, return_tensors="pt")["pixel_values"]


def linear(n: int, m: int, name: str) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.randn(m, n) / n**0.5, f"{name}.bias": torch.randn(m) / 10}


def norm(n: int, name: str) -> dict[str, Tensor]:
    return {f"{name}.weight": 1 + torch.randn(n) / 10, f"{name}.bias": torch.randn(n) / 10}


def head(width: int, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of LAION's head: the dropout layers have numbers and no tensors."""
    sizes = [(0, width, 12), (2, 12, 8), (4, 8, 6), (6, 6, 4), (7, 4, 1)]
    return {k: v for i, n, m in sizes for k, v in linear(n, m, f"{prefix}layers.{i}").items()}


def through_head(x: Tensor, tensors: dict[str, Tensor], prefix: str = "") -> Tensor:
    for i in (0, 2, 4, 6, 7):
        x = nn.functional.linear(x, tensors[f"{prefix}layers.{i}.weight"], tensors[f"{prefix}layers.{i}.bias"])
    return x[..., 0]


class Block(nn.Module):
    """A block of OpenCLIP's transformers with the module names of its files."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 2 * width))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(2 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Blocks(nn.Module):
    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(layers))


class Vision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIZE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = Blocks(WIDTH, 2, 2)
        self.proj = nn.Parameter(torch.randn(WIDTH, 8))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = self.ln_pre(torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding)
        for block in self.transformer.resblocks:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj


class OpenCLIP(nn.Module):
    """OpenCLIP's model with the tensor names of HPSv2's files."""

    def __init__(self, words: int, length: int) -> None:
        super().__init__()
        self.visual, self.transformer = Vision(), Blocks(WIDTH, 2, 2)
        self.token_embedding = nn.Embedding(words, WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(length, WIDTH))
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.randn(WIDTH, 8))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))

    def text(self, tokens: Tensor, end: int) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        mask = torch.full((tokens.shape[1],) * 2, -torch.inf).triu(1)
        for block in self.transformer.resblocks:
            x = block(x, mask)
        place = (tokens == end).int().argmax(1)
        return self.ln_final(x)[torch.arange(len(x)), place] @ self.text_projection


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OpenCLIP]:
    from transformers import CLIPConfig

    torch.manual_seed(0)
    folder, words = tmp_path_factory.mktemp("hps"), tiny.tokenizer()
    text = tiny.clip(words, WIDTH, 8).config.to_dict() | {"hidden_act": "gelu"}
    eyes = {
        **{"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"image_size": SIZE, "patch_size": PATCH, "hidden_act": "gelu", "projection_dim": 8},
    }
    CLIPConfig(text_config=text, vision_config=eyes, projection_dim=8).save_pretrained(folder)
    words.save_pretrained(folder)
    preprocessing().save_pretrained(folder)
    model = OpenCLIP(len(words), words.model_max_length)
    torch.save({"state_dict": model.state_dict()}, folder / "HPS_v2.1_compressed.pt")
    return folder, model


def test_hps_is_the_cosine_of_its_open_clip_model(hps: tuple[Path, OpenCLIP]) -> None:
    folder, model = hps
    reward = HPSv2(str(folder), processor=str(folder), device="cpu", batch_size=3)
    scores = reward(PICTURES)
    assert not scores.failures and reward.name == "HPSv2.1"
    words = tiny.tokenizer()
    for image, value in zip(PICTURES, scores.values, strict=True):
        tokens = words([image.info["prompt"]], truncation=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            seen = model.visual(pixels_of(padded(image, SIZE)))
            cosine = torch.cosine_similarity(seen, model.text(tokens, words.eos_token_id)).item()
        assert value == pytest.approx(cosine, abs=1e-5)
    assert len(set(scores.values)) > 1


def test_a_picture_is_padded_to_a_square() -> None:
    wide = padded(Image.new("RGB", (32, 8), "white"), 16)
    assert wide.size == (16, 16)
    assert [wide.getpixel((8, y))[0] for y in (0, 5, 6, 9, 10, 15)] == [0, 0, 255, 255, 0, 0]


@pytest.fixture(scope="module")
def image_reward(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """Return the folder and tensors of a tiny ImageReward, under the names of ``ImageReward.pt``."""
    from transformers import BertTokenizer

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("image_reward")
    letters = [*string.ascii_lowercase, *("##" + letter for letter in string.ascii_lowercase)]
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    (folder / "vocab.txt").write_text("\n".join(vocab))
    BertTokenizer(vocab={word: i for i, word in enumerate(vocab)}).save_pretrained(folder)
    eye, text = "blip.visual_encoder", "blip.text_encoder"
    tensors = {
        f"{eye}.cls_token": torch.randn(1, 1, WIDTH),
        f"{eye}.pos_embed": torch.randn(1, (SIZE // PATCH) ** 2 + 1, WIDTH),
        f"{eye}.patch_embed.proj.weight": torch.randn(WIDTH, 3, PATCH, PATCH) / 14,
        f"{eye}.patch_embed.proj.bias": torch.randn(WIDTH),
        **norm(WIDTH, f"{eye}.norm"),
        f"{text}.embeddings.position_ids": torch.arange(40)[None],
        f"{text}.embeddings.word_embeddings.weight": torch.randn(len(vocab) + 2, 24),  # with BLIP's two more words
        f"{text}.embeddings.position_embeddings.weight": torch.randn(40, 24),
        **norm(24, f"{text}.embeddings.LayerNorm"),
        **head(24, "mlp."),
    }
    for i in range(2):
        block = f"{eye}.blocks.{i}"
        tensors |= norm(WIDTH, f"{block}.norm1") | norm(WIDTH, f"{block}.norm2")
        tensors |= linear(WIDTH, 3 * WIDTH, f"{block}.attn.qkv") | linear(WIDTH, WIDTH, f"{block}.attn.proj")
        tensors |= linear(WIDTH, 32, f"{block}.mlp.fc1") | linear(32, WIDTH, f"{block}.mlp.fc2")
        layer = f"{text}.encoder.layer.{i}"
        for kind, width in (("attention", 24), ("crossattention", WIDTH)):
            tensors |= linear(24, 24, f"{layer}.{kind}.self.query") | linear(24, 24, f"{layer}.{kind}.output.dense")
            tensors |= linear(width, 24, f"{layer}.{kind}.self.key") | linear(width, 24, f"{layer}.{kind}.self.value")
            tensors |= norm(24, f"{layer}.{kind}.output.LayerNorm")
        tensors |= linear(24, 32, f"{layer}.intermediate.dense") | linear(32, 24, f"{layer}.output.dense")
        tensors |= norm(24, f"{layer}.output.LayerNorm")
    torch.save(tensors, folder / "ImageReward.pt")
    settings = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 3}
    settings |= {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "max_position_embeddings": 40, "encoder_width": WIDTH}
    (folder / "med_config.json").write_text(json.dumps(settings | {"architectures": ["BertModel"], "vocab_size": 57}))
    return folder, tensors


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(0, 1) for x in (q, k, v))
    weights = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v).transpose(0, 1).flatten(1)


def blip(t: dict[str, Tensor], pixels: Tensor, tokens: Tensor) -> Tensor:
    """Return the first token's last state for one picture and one prompt, step by step as BLIP's authors have it."""

    def layer(x: Tensor, name: str) -> Tensor:
        return nn.functional.linear(x, t[f"{name}.weight"], t[f"{name}.bias"])

    def normed(x: Tensor, name: str, eps: float) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], eps)

    eye, text = "blip.visual_encoder", "blip.text_encoder"
    proj = f"{eye}.patch_embed.proj"
    x = nn.functional.conv2d(pixels, t[f"{proj}.weight"], t[f"{proj}.bias"], PATCH)[0].flatten(1).T
    x = torch.cat([t[f"{eye}.cls_token"][0], x]) + t[f"{eye}.pos_embed"][0]
    for i in range(2):
        block = f"{eye}.blocks.{i}"
        qkv = layer(normed(x, f"{block}.norm1", 1e-6), f"{block}.attn.qkv").chunk(3, -1)
        x = x + layer(attend(*qkv, heads=1), f"{block}.attn.proj")
        inner = layer(normed(x, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1")
        x = x + layer(nn.functional.gelu(inner), f"{block}.mlp.fc2")
    patches = normed(x, f"{eye}.norm", 1e-6)
    words, places = (t[f"{text}.embeddings.{kind}_embeddings.weight"] for kind in ("word", "position"))
    h = normed(words[tokens] + places[: len(tokens)], f"{text}.embeddings.LayerNorm", 1e-12)
    for i in range(2):
        name = f"{text}.encoder.layer.{i}"
        for kind, source in (("attention", None), ("crossattention", patches)):
            of = h if source is None else source
            q, k, v = (
                layer(each, f"{name}.{kind}.self.{part}") for part, each in (("query", h), ("key", of), ("value", of))
            )
            out = layer(attend(q, k, v, heads=3), f"{name}.{kind}.output.dense")
            h = normed(out + h, f"{name}.{kind}.output.LayerNorm", 1e-12)
        inner = nn.functional.gelu(layer(h, f"{name}.intermediate.dense"))
        h = normed(layer(inner, f"{name}.output.dense") + h, f"{name}.output.LayerNorm", 1e-12)
    return h[0]


def test_image_reward_is_its_authors_model(image_reward: tuple[Path, dict[str, Tensor]]) -> None:
    from transformers import AutoTokenizer

    folder, tensors = image_reward
    reward = ImageReward(str(folder), str(folder), device="cpu", batch_size=3)
    scores = reward(PICTURES)
    assert not scores.failures
    words = AutoTokenizer.from_pretrained(folder)
    for image, value in zip(PICTURES, scores.values, strict=True):
        tokens = words(image.info["prompt"], truncation=True, max_length=35, return_tensors="pt")["input_ids"][0]
        assert len(tokens) <= 35
        found = through_head(blip(tensors, pixels_of(image), tokens), tensors, "mlp.")
        assert value == pytest.approx(((found - MEAN) / STD).item(), abs=1e-4)
    assert len(set(scores.values)) > 1


@pytest.fixture(scope="module")
def aesthetic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("aesthetic")
    config = CLIPVisionConfig(
        **{"hidden_size": WIDTH, "intermediate_size": 32, "projection_dim": 10, "num_hidden_layers": 2},
        **{"num_attention_heads": 2, "image_size": SIZE, "patch_size": PATCH},
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    preprocessing().save_pretrained(folder)
    tensors = head(10)
    torch.save(tensors, folder / "aesthetic-model.pth")
    return folder, tensors


def test_aesthetic_score_is_linear_in_the_direction(aesthetic: tuple[Path, dict[str, Tensor]]) -> None:
    from transformers import CLIPVisionModelWithProjection

    folder, tensors = aesthetic
    reward = AestheticScore(str(folder), vision=str(folder), device="cpu", batch_size=3)
    images = [picture(0, None), picture(1, None), picture(2, "a dog", (24, 16))]
    scores = reward(images)
    assert not scores.failures  # no prompt is needed
    model = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    for image, value in zip(images, scores.values, strict=True):
        with torch.no_grad():
            embed = model(pixels_of(image)).image_embeds[0]
        assert value == pytest.approx(through_head(embed / embed.norm(), tensors).item(), abs=1e-4)
    assert len(set(scores.values)) == 3


def test_missing_parts_are_named(
    tmp_path: Path,
    hps: tuple[Path, OpenCLIP],
    image_reward: tuple[Path, dict[str, Tensor]],
    aesthetic: tuple[Path, dict[str, Tensor]],
) -> None:
    """Each message has the part and the setting of its folder, not the model's."""
    from transformers import CLIPConfig, CLIPModel

    (tmp_path / "empty").mkdir()
    empty, bare, wordy = (str(tmp_path / name) for name in ("empty", "bare", "wordy"))
    clip, eyes = str(hps[0]), str(aesthetic[0])
    for folder in (bare, wordy):
        CLIPModel(CLIPConfig.from_pretrained(clip)).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(wordy)
    cases: list[tuple[Any, str, str]] = [
        (HPSv2(clip, "2.0", clip), "the model", "no HPS_v2_compressed.*model"),
        (HPSv2(clip, processor=empty), "CLIP's settings", "empty.*processor"),
        (ImageReward(str(image_reward[0]), empty), "the tokenizer", "empty.*tokenizer"),
        (ImageReward(empty), "the model", "empty.*no ImageReward.pt.*model"),
        (AestheticScore(empty), "the head", "empty.*no aesthetic-model.pth.*model"),
        (AestheticScore(eyes, vision=empty), "the vision tower", "empty.*vision"),
        (AestheticScore(eyes, vision=eyes, processor=empty), "the image processor", "empty.*processor"),
        (CLIPScore(bare), "the tokenizer", "bare.*processor"),
        (CLIPScore(wordy), "the image processor", "wordy.*processor"),
    ]
    for reward, part, why in cases:
        setting = why.rpartition("*")[2]
        with pytest.raises(GraftError, match=f"cannot load {part} from .*{why[: -len(setting)]}data.reward.{setting},"):
            reward.setup()


def test_other_weights_are_refused(
    tmp_path: Path, hps: tuple[Path, OpenCLIP], image_reward: tuple[Path, dict[str, Tensor]]
) -> None:
    folder, tensors = image_reward
    settings = (folder / "med_config.json").read_text()

    def refused(name: str, content: dict[str, Tensor]) -> str:
        place = tmp_path / name
        place.mkdir()
        (place / "med_config.json").write_text(settings)
        torch.save(content, place / "ImageReward.pt")
        with pytest.raises(GraftError) as caught:
            ImageReward(str(place), str(folder), device="cpu").setup()
        return str(caught.value)

    assert "has no vision tower" in refused("blind", {n: t for n, t in tensors.items() if "visual" not in n})
    lacking = {n: t for n, t in tensors.items() if "layer.1.crossattention.self.key" not in n}
    assert "lacks 2 of its tensors" in refused("lacking", lacking)
    assert "gives 4 values; it must" in refused(
        "headless", {n: t for n, t in tensors.items() if "mlp.layers.7" not in n}
    )
    state = {n: t for n, t in hps[1].state_dict().items() if not n.startswith("visual.ln_post")}
    torch.save({"state_dict": state}, tmp_path / "HPS_v2.1_compressed.pt")
    with pytest.raises(GraftError, match="lacks 2 of its tensors"):
        HPSv2(str(tmp_path), processor=str(hps[0]), device="cpu").setup()
