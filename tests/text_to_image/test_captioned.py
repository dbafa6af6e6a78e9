"""Captioned pictures, and the networks that are trained on them, on emoji made on the spot."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from domains.images.captioned import (
    captions,
    judge,
    resumable,
    scorer,
    shipped,
    train_judge,
    train_pipeline,
    train_scorer,
    words,
)
from domains.images.captioned.captions import BACKGROUNDS, COLOURS, OBJECTS, TEMPLATES, Caption
from domains.images.captioned.scenes import Scenes
from domains.images.pixels import to_pil
from domains.images.rewards import CaptionMatch
from graft.errors import GraftError
from graft.io.paths import find_file

REFERENCE = "domains/images/captioned/reference"


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the layout of the real one: each object is a square with a grain of its own."""
    path = tmp_path_factory.mktemp("emoji") / "emoji.npz"
    rgba = np.zeros((len(OBJECTS), 16, 16, 4), np.uint8)
    rgba[:, 3:13, 3:13, 3] = 255
    rgba[:, 3:13, 3:13, :3] = np.random.default_rng(0).integers(90, 166, (len(OBJECTS), 10, 10, 1))
    np.savez(path, rgba=rgba, name=np.array(list(OBJECTS.values())))
    return path


def test_a_text_says_its_caption() -> None:
    for caption in captions.every():
        for template in TEMPLATES:
            found = captions.parse(caption.text(template))
            assert (found.object, found.colour) == (caption.object, caption.colour)
            assert found.background == (caption.background if "{background}" in template else "")
    assert Caption("key", "orange", "blue").text() == "an orange key on a blue background"
    with pytest.raises(ValueError, match="names no object"):
        captions.parse("a red background")


def test_held_out_pairs_are_in_one_part() -> None:
    seen, unseen = captions.split(0.15)
    pairs = [{(caption.object, caption.colour) for caption in part} for part in (seen, unseen)]
    assert not pairs[0] & pairs[1] and len(pairs[0] | pairs[1]) == len(OBJECTS) * len(COLOURS)
    assert len(seen) + len(unseen) == len(list(captions.every()))
    for position, known in ((0, OBJECTS), (1, COLOURS)):  # a held-out pair is of words that the training has
        assert {pair[position] for pair in pairs[0]} == set(known)
    assert captions.split(0.15, 2)[1] != unseen  # the judge's part is another


def test_every_word_is_a_token() -> None:
    tokenizer = words.tokenizer()
    for caption in captions.every():
        for template in TEMPLATES:
            text = caption.text(template)
            tokens = tokenizer(text).input_ids
            assert len(tokens) == 2 + len(text.replace(",", " ,").split()) <= words.LENGTH
            assert tokenizer.unk_token_id not in tokens[1:-1]


def test_pictures_have_their_colours(emoji: Path) -> None:
    some = list(captions.every())
    pixels = Scenes(emoji).draw(some, torch.Generator().manual_seed(0)).float()
    assert pixels.shape == (len(some), 3, 32, 32)
    corners = pixels[:, :, 0, 0]
    middles = pixels[:, :, 12:20, 12:20].mean((2, 3))
    for i, caption in enumerate(some):
        assert (corners[i] - torch.tensor(BACKGROUNDS[caption.background])).abs().max() < 13
        apart = {name: (middles[i] - torch.tensor(colour)).norm() for name, colour in COLOURS.items()}
        assert min(apart, key=apart.__getitem__) == caption.colour
    again = Scenes(emoji).draw(some, torch.Generator().manual_seed(0))
    assert bool((again == pixels).all())


@pytest.mark.parametrize("fault", ["missing", "text", "arrays", "shape", "names"])
def test_files_without_emoji(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "emoji.npz"
    if fault == "text":
        path.write_text("emoji")
    elif fault == "arrays":
        np.savez(path, images=np.zeros(3))
    elif fault == "shape":
        np.savez(path, rgba=np.zeros((2, 4, 4, 3), np.uint8), name=np.array(["a", "b"]))
    elif fault == "names":
        np.savez(path, rgba=np.zeros((1, 4, 4, 4), np.uint8), name=np.array(["bell"]))
    with pytest.raises(GraftError) as error:
        Scenes(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_an_interrupted_training_resumes_exactly(tmp_path: Path) -> None:
    def trained(name: str, stop: int | None = None, network: nn.Module | None = None, **about: Any) -> nn.Module:
        network = network or nn.Linear(3, 1)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(0.5)

        def loss(step: int) -> torch.Tensor:
            if step == stop:
                raise KeyboardInterrupt
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
            return (network(x)[:, 0] - x.sum(1)).square().mean()

        resumable.train(network, loss, 20, 0.1, tmp_path / name, {"seed": 0, **about}, every_seconds=0)
        return network

    whole = trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("cut", stop=11)
    with pytest.raises(GraftError, match="other settings"):
        trained("cut", steps=3)
    cut = trained("cut")
    assert all(bool((a == b).all()) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))


def test_training_a_pipeline(emoji: Path, tmp_path: Path) -> None:
    """The folder is one that diffusers loads; another training of a few steps gives the same weights."""
    from diffusers import StableDiffusionPipeline

    pixels = []
    for name in ("one", "two"):
        out = train_pipeline.train(
            str(tmp_path / name),
            str(emoji),
            work=str(tmp_path / "work"),
            held_out=0.95,
            autoencoder_steps=2,
            pictures=1,
            steps=2,
        )
        assert not (tmp_path / "work").exists()
        pipe = StableDiffusionPipeline.from_pretrained(out)
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        image = pipe("a red apple on a white background", num_inference_steps=2, generator=generator).images[0]
        assert image.size == (32, 32)
        pixels.append(np.asarray(image))
    assert (pixels[0] == pixels[1]).all()


def test_training_a_scorer_and_a_judge(emoji: Path, tmp_path: Path) -> None:
    ranking = train_scorer.train(str(tmp_path / "scorer.safetensors"), str(emoji), steps=2, batch_size=8)
    accuracy = train_judge.train(str(tmp_path / "judge.safetensors"), str(emoji), steps=2, batch_size=8)
    for found in (*vars(ranking).values(), *vars(accuracy).values()):
        assert 0 <= found <= 1
    assert scorer.load_scorer(tmp_path / "scorer.safetensors").settings["size"] == 64
    with pytest.raises(GraftError, match="holds no scorer"):
        scorer.load_scorer(tmp_path / "judge.safetensors")
    with pytest.raises(GraftError, match="holds no judge"):
        judge.load_judge(tmp_path / "scorer.safetensors")


def test_neighbours_differ_in_one_word() -> None:
    caption = Caption("apple", "red", "white")
    found = train_scorer.neighbours(caption)
    assert len(found) == len(set(found)) == len(OBJECTS) + len(COLOURS) + len(BACKGROUNDS) - 3
    for each in found:
        assert sum(vars(each)[part] != vars(caption)[part] for part in vars(caption)) == 1
    assert train_scorer.changed(caption, random.Random(0)) in found


def shipped_pictures() -> tuple[list[Any], list[str]]:
    with np.load(find_file(f"{REFERENCE}/pictures.npz")) as stored:
        pixels, texts = torch.from_numpy(stored["images"]).movedim(-1, 1), [str(text) for text in stored["prompts"]]
    return to_pil(pixels, [{"prompt": text} for text in texts]), texts


def test_the_shipped_judge_knows_real_pictures() -> None:
    images, _ = shipped_pictures()
    features = judge.JudgeFeatures()
    right = [all(each.values()) for each in features.right(images)]
    metrics = {name: metric for name, metric in features.metrics().items()}
    for metric in metrics.values():
        metric.update(images[:300])
        metric.update(images[300:])
    assert float(metrics["recognised"].compute()) == pytest.approx(np.mean(right)) and np.mean(right) > 0.97
    images[0].info["prompt"] = "a red apple"  # the prompt has no background
    assert {*features.right(images[:1])[0]} == {"object", "colour"}


def test_the_shipped_scorer_ranks_captions() -> None:
    """The right caption of a real picture scores above each with one word changed, of held-out pairs, too."""
    images, texts = shipped_pictures()
    reward = CaptionMatch()
    for wanted in (False, True):
        right = []
        for image, text in zip(images, texts, strict=True):
            caption = captions.parse(text)
            if captions.held_out(caption, 0.15) == wanted and len(right) < 60:
                copies = []
                for each in (caption, *train_scorer.neighbours(caption)):
                    copies.append(image.copy())
                    copies[-1].info["prompt"] = each.text()
                found = reward(copies).values
                right.append(max(found) == found[0])
        assert np.mean(right) > 0.8
    nameless = images[0].copy()
    del nameless.info["prompt"]
    failed = reward([images[0], nameless])
    assert failed.values[0] == pytest.approx(reward.score(images[0]), abs=1e-4) and np.isnan(failed.values[1])


def test_shipped_prompts(emoji: Path, tmp_path: Path) -> None:
    shipped.write(str(tmp_path), str(emoji), pictures=3)
    for name, wanted in (("prompts.txt", False), ("unseen_prompts.txt", True)):
        ours = find_file(f"{REFERENCE}/{name}").read_text()
        assert ours == (tmp_path / name).read_text()
        found = [captions.parse(line) for line in ours.splitlines()]
        assert len(set(found)) == 64 and all(captions.held_out(caption, 0.15) == wanted for caption in found)
