"""Rewards of pictures and prompts: the real classes at tiny size, loaded from files as a user loads them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from domains.images.rewards import CLIPScore, Compressibility, PickScore, VQAScore
from domains.images.rewards.vqa_score import ANSWER, BEFORE, BEHIND
from graft import GraftError
from graft.reward import WeightedSum

SIZE = 16


def picture(seed: int, prompt: str | None = "a red ball", shape: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    pixels = torch.randint(0, 256, (shape[1], shape[0], 3), generator=torch.Generator().manual_seed(seed))
    image = Image.fromarray(pixels.to(torch.uint8).numpy())
    if prompt is not None:
        image.info["prompt"] = prompt
    return image


PICTURES = [picture(0), picture(1), picture(2, "a dog", (24, 16)), picture(3, "no dog" * 9)]


def vision() -> Any:
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=8,
    )


def preprocessing() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    words = tiny.tokenizer()
    text = tiny.clip(words).config
    model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision().to_dict(), projection_dim=16))
    for part in (model, words, preprocessing()):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def flan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """CLIP-FlanT5 in the layout of its weights: T5's names, ``mm_projector``, and settings that T5 does not know."""
    from transformers import CLIPVisionModel, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("flan")
    folders = {name: root / name for name in ("model", "tokenizer", "vision")}
    pieces = tiny.t5_tokenizer(512)
    pieces.save_pretrained(folders["tokenizer"])
    CLIPVisionModel(vision()).save_pretrained(folders["vision"])
    preprocessing().save_pretrained(folders["vision"])
    config = T5Config(vocab_size=len(pieces), d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    config.decoder_start_token_id = 0
    t5 = T5ForConditionalGeneration(config)
    t5.save_pretrained(folders["model"])
    file = folders["model"] / "model.safetensors"
    layers = torch.nn.Sequential(torch.nn.Linear(16, 24), torch.nn.GELU(), torch.nn.Linear(24, 24))
    projector = {f"mm_projector.{name}": t.contiguous() for name, t in layers.state_dict().items()}
    save_file({**load_file(file), **projector}, file, {"format": "pt"})
    settings = json.loads((folders["model"] / "config.json").read_text())
    settings |= {"model_type": "clip_t5", "mm_vision_tower": str(folders["vision"]), "mm_hidden_size": 16}
    (folders["model"] / "config.json").write_text(json.dumps(settings))
    return folders


def test_clip_score_is_the_cosine(clip: Path) -> None:
    from transformers import CLIPModel

    reward = CLIPScore(str(clip), device="cpu", batch_size=3)
    scores = reward(PICTURES)
    assert not scores.failures
    model, words, pixels = CLIPModel.from_pretrained(clip).eval(), tiny.tokenizer(), preprocessing()
    for image, value in zip(PICTURES, scores.values, strict=True):
        tokens = words([image.info["prompt"]], truncation=True, return_tensors="pt")  # alone: nothing is padded
        with torch.no_grad():
            text = model.text_model(tokens["input_ids"], tokens["attention_mask"]).pooler_output
            seen = model.vision_model(pixels(images=image, return_tensors="pt")["pixel_values"]).pooler_output
            cosine = torch.cosine_similarity(model.text_projection(text), model.visual_projection(seen)).item()
        assert value == pytest.approx(max(100 * cosine, 0), abs=1e-3)
    assert len(set(scores.values)) > 1


def test_pick_score_is_scaled(clip: Path) -> None:
    from transformers import CLIPModel

    reward = PickScore(str(clip), str(clip), device="cpu")
    cosine = CLIPScore(str(clip), device="cpu")
    scale = math.exp(CLIPModel.from_pretrained(clip).logit_scale.item())
    a, b = reward(PICTURES).values, cosine(PICTURES).values
    assert [x for x, y in zip(a, b, strict=True) if y > 0] == pytest.approx([scale * y / 100 for y in b if y > 0])


def test_vqa_score_is_the_likelihood_of_yes(flan: dict[str, Path]) -> None:
    """Against the definition, one picture at a time, step by step; batches are padded and must not show it."""
    from transformers import CLIPVisionModel, T5ForConditionalGeneration

    reward = VQAScore(str(flan["model"]), str(flan["tokenizer"]), dtype="float32", device="cpu", batch_size=4)
    scores = reward(PICTURES)
    assert not scores.failures and all(0 < value < 1 for value in scores.values)
    t5 = T5ForConditionalGeneration.from_pretrained(flan["vision"].parent / "model", config=reward._t5.config).eval()
    tower, pieces = CLIPVisionModel.from_pretrained(flan["vision"]).eval(), tiny.t5_tokenizer(512)
    weights = load_file(flan["model"] / "model.safetensors")
    pixels = preprocessing()
    for image, value in zip(PICTURES, scores.values, strict=True):
        side = max(image.size)
        square = Image.new("RGB", (side, side), tuple(int(255 * mean) for mean in pixels.image_mean))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        with torch.no_grad():
            hidden = tower(pixels(images=square, return_tensors="pt")["pixel_values"], output_hidden_states=True)
            patches = hidden.hidden_states[-2][0, 1:]
            for layer in (0, 2):
                patches = patches @ weights[f"mm_projector.{layer}.weight"].T + weights[f"mm_projector.{layer}.bias"]
                patches = torch.nn.functional.gelu(patches) if layer == 0 else patches
            ends = [pieces(text).input_ids for text in (BEFORE, BEHIND.format(image.info["prompt"]))]
            before, behind = (t5.shared(torch.tensor(ids)) for ids in ends)
            encoded = t5.encoder(inputs_embeds=torch.cat([before, patches, behind])[None])
            log_p, given = [], [t5.config.decoder_start_token_id]
            for token in pieces(ANSWER).input_ids:
                logits = t5(encoder_outputs=encoded, decoder_input_ids=torch.tensor([given])).logits[0, -1]
                log_p.append(float(logits.log_softmax(-1)[token]))
                given.append(token)
        assert value == pytest.approx(math.exp(sum(log_p) / len(log_p)), rel=1e-4)
    assert pieces(ANSWER).input_ids[-1] == pieces.eos_token_id and len(log_p) > 1
    assert all(ids[-1] == pieces.eos_token_id for ids in ends)


def test_a_failure_costs_its_picture(clip: Path) -> None:
    broken = picture(4)
    broken.info["failed"] = "pixels are not finite"
    scores = CLIPScore(str(clip), device="cpu")([PICTURES[0], picture(5, None), broken, PICTURES[1]])
    assert scores.failures == {1: "the picture has no prompt", 2: "pixels are not finite"}
    assert [math.isnan(value) for value in scores.values] == [False, True, True, False]


def test_weighted_sum(clip: Path) -> None:
    terms = [CLIPScore(str(clip), device="cpu"), Compressibility()]
    both = WeightedSum(list(terms), [1.0, 0.5])
    a, b = (term(PICTURES).values for term in terms)
    assert both(PICTURES).values == pytest.approx([x - 0.5 * y for x, y in zip(a, b, strict=True)])


def test_loaded_once_and_refused_in_a_sentence(clip: Path, flan: dict[str, Path]) -> None:
    reward = CLIPScore(str(clip), device="cpu")
    reward.setup()
    network = reward._clip
    reward.teardown()
    reward(PICTURES[:1])
    assert reward._clip is network
    with pytest.raises(GraftError, match=r"CLIPScore cannot load the model from '/no/such' .there is no such file"):
        CLIPScore("/no/such", device="cpu").setup()
    with pytest.raises(GraftError, match="its weights have no mm_projector"):
        VQAScore(_without_projector(flan), str(flan["tokenizer"]), device="cpu").setup()
    with pytest.raises(GraftError, match="batch_size is 0"):
        CLIPScore(str(clip), batch_size=0)


def _without_projector(flan: dict[str, Path]) -> str:
    import shutil

    copy = shutil.copytree(flan["model"], flan["model"].parent / "bare", dirs_exist_ok=True)
    file = copy / "model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if "mm_projector" not in n}, file, {"format": "pt"})
    return str(copy)
