"""Prompts in the formats that the field's benchmarks have."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from domains.images.text.module import TextToImage
from domains.images.text.prompts import Prompt, read
from graft.core.seeding import make_generator


def test_text(folder: Path) -> None:
    (folder / "a.txt").write_text("\ufeffa dog \n\n a cat\r\n", encoding="utf-8")
    assert read("a.txt") == [Prompt("a dog"), Prompt("a cat")]


def test_t2i_compbench(folder: Path) -> None:
    """One file for each category, which becomes the tag."""
    (folder / "color_val.txt").write_text("a green bench and a blue bowl\n")
    (folder / "spatial_val.txt").write_text("a giraffe next to a lamp\n")
    found = read(["color_val.txt", "spatial_val.txt"])
    assert found == [
        Prompt("a green bench and a blue bowl", "color_val"),
        Prompt("a giraffe next to a lamp", "spatial_val"),
    ]


def test_geneval(folder: Path) -> None:
    rows = [
        {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
        {"tag": "counting", "include": [{"class": "clock", "count": 2}], "prompt": "a photo of two clocks"},
    ]
    (folder / "evaluation_metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert read("evaluation_metadata.jsonl") == [Prompt(str(row["prompt"]), str(row["tag"])) for row in rows]


def test_genai_bench(folder: Path) -> None:
    """Objects by number, with other things in them."""
    content = {
        f"{i:05d}": {"id": f"{i:05d}", "prompt": text, "models": {}} for i, text in enumerate(("a hat", "two hats"))
    }
    (folder / "genai_image.json").write_text(json.dumps(content))
    assert read("genai_image.json") == [Prompt("a hat"), Prompt("two hats")]


def test_tables(folder: Path) -> None:
    (folder / "a.csv").write_text('id,Prompt,Category\n1,"a dog, running",animals\n2,,none\n')
    (folder / "b.tsv").write_text("Caption\tid\na dog, running\t1\n")
    (folder / "c.csv").write_text("a,b\nx,y\n")
    assert read("a.csv") == [Prompt("a dog, running", "animals")]
    assert read("b.tsv") == [Prompt("a dog, running")]
    assert read("c.csv", "b") == [Prompt("y")]
    (folder / "d.json").write_text('["a", {"text": "b"}]')
    assert read("d.json") == [Prompt("a"), Prompt("b")]


def test_conditions_are_a_random_part_of_the_prompts() -> None:
    """With fewer draws than prompts they are not the first ones of the file; with more, each comes equally often."""
    model: Any = SimpleNamespace(eval_prompt_indices=list(range(100, 200)))
    few = TextToImage.sample_conditions(model, 10, make_generator(0, "some"))["prompt"]
    assert len(few.unique()) == 10 and few.min() >= 100 and few.max() > 110
    many = TextToImage.sample_conditions(model, 300, make_generator(0, "some"))["prompt"]
    assert (many.bincount()[100:] == 3).all()
    assert torch.equal(few, TextToImage.sample_conditions(model, 10, make_generator(0, "some"))["prompt"])
