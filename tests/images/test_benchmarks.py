"""Benchmarks by their authors' programs: dry runs, and stand-ins of the programs that read what the real ones read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from domains.images import files
from domains.images.benchmarks import genai_bench, geneval, t2i_compbench
from graft import GraftError

PROMPTS = ["a red bench", "two dogs", "a cat"]
TAGS = ["colors", "counting", "colors"]


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """Return a folder of two pictures for each prompt, as ``graft sample`` writes it; the grey value is the number."""
    images = []
    for i in range(6):
        image = Image.new("RGB", (4, 4), (i, i, i))
        image.info |= {"prompt": PROMPTS[i % 3], "tag": TAGS[i % 3]}
        images.append(image)
    files.write_images(images, tmp_path / "drawn")
    return str(tmp_path / "drawn")


def checkout(folder: Path, scripts: dict[str, str]) -> str:
    for name, text in scripts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)


GENEVAL = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("imagedir")
parser.add_argument("--outfile")
parser.add_argument("--model-path")
args = parser.parse_args()
with open(args.outfile, "w") as out:
    for folder in sorted(pathlib.Path(args.imagedir).iterdir()):
        line = json.loads((folder / "metadata.jsonl").read_text())
        for picture in sorted((folder / "samples").iterdir()):
            right = line["tag"] == "colors" and picture.name == "0000.png"
            print(json.dumps({"tag": line["tag"], "prompt": line["prompt"], "correct": right}), file=out)
"""


def test_geneval(pictures: str, tmp_path: Path) -> None:
    # spaces around a prompt are not kept, and JSON may hold other ends of lines than a line feed
    lines = [{"tag": tag, "prompt": f"{prompt} ", "include": []} for tag, prompt in zip(TAGS, PROMPTS, strict=True)]
    lines[0]["note"] = "a\u2028b"
    metadata = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    code = checkout(
        tmp_path / "geneval",
        {"evaluation/evaluate_images.py": GENEVAL, "prompts/evaluation_metadata.jsonl": metadata},
    )
    out = tmp_path / "dry"
    command = geneval.score(pictures, code, str(tmp_path), out=str(out), dry_run=True)
    assert f"{code}/evaluation/evaluate_images.py {out}/pictures --outfile {out}/results.jsonl" in command
    assert not (out / "results.jsonl").exists()
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert found == [
        f"pictures/{n:05d}/{name}"
        for n in range(3)
        for name in ("metadata.jsonl", "samples/0000.png", "samples/0001.png")
    ]
    second = Image.open(out / "pictures/00001/samples/0001.png").getpixel((0, 0))
    assert second == (4, 4, 4)  # the second picture of the second prompt
    assert json.loads((out / "pictures/00002/metadata.jsonl").read_text()) == lines[2]
    text = geneval.score(pictures, code, str(tmp_path), python=sys.executable, out=str(tmp_path / "out"))
    assert [line.split() for line in text.splitlines()] == [
        ["colors", "0.5000", "(4", "pictures)"],
        ["counting", "0.0000", "(2", "pictures)"],
        ["GenEval", "0.2500", "(6", "pictures)"],
    ]


COMPBENCH = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
for name in ("--out_dir", "--outpath", "--complex"):
    parser.add_argument(name)
args = parser.parse_args()
folder = pathlib.Path(args.out_dir or args.outpath)
place = folder / RESULT
place.mkdir(parents=True, exist_ok=True)
names = sorted((folder / "samples").iterdir(), key=lambda path: int(path.stem.split("_")[1]))
answers = [{"question_id": i, "answer": str(len(path.stem.split("_")[0]))} for i, path in enumerate(names)]
(place / "vqa_result.json").write_text(json.dumps(answers))
"""


@pytest.mark.parametrize(
    ("category", "programs"),
    [
        ("color", ["BLIPvqa_eval/BLIP_vqa.py"]),
        ("spatial", ["UniDet_eval/2D_spatial_eval.py"]),
        ("3d_spatial", ["UniDet_eval/3D_spatial_eval.py"]),
        ("numeracy", ["UniDet_eval/numeracy_eval.py"]),
        ("non_spatial", ["CLIPScore_eval/CLIP_similarity.py"]),
        (
            "complex",
            [
                "BLIPvqa_eval/BLIP_vqa.py",
                "UniDet_eval/2D_spatial_eval.py",
                "CLIPScore_eval/CLIP_similarity.py",
                "3_in_1_eval/3_in_1.py",
            ],
        ),
    ],
)
def test_t2i_compbench(category: Any, programs: list[str], pictures: str, tmp_path: Path) -> None:
    script = COMPBENCH.replace("RESULT", repr(t2i_compbench.RESULTS[category]))
    prompts = {f"examples/dataset/{category}_val.txt": "\n".join(PROMPTS)}
    code = checkout(tmp_path / "bench", dict.fromkeys(programs, script) | prompts)
    dry = t2i_compbench.score(pictures, category, code, out=str(tmp_path / "dry"), dry_run=True)
    assert [line.split()[4].removeprefix(f"{code}/") for line in dry.splitlines()] == programs
    names = sorted(path.name for path in (tmp_path / "dry" / category / "samples").iterdir())
    assert names == sorted(f"{prompt}_{2 * i + k:06d}.png" for i, prompt in enumerate(PROMPTS) for k in range(2))
    text = t2i_compbench.score(pictures, category, code, python=sys.executable, out=str(tmp_path / "out"))
    mean = sum(map(len, PROMPTS)) / 3
    assert text == f"{category}  {mean:.4f}  (6 pictures)"


T2V = """
class Score:
    def __init__(self, model):
        assert model == "clip-flant5-xl"

    def __call__(self, images, texts):
        from PIL import Image
        return Image.open(images[0]).getpixel((0, 0))[0] / 10 + len(texts[0])

def get_score_model(model):
    return Score(model)
"""


def test_genai_bench(pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = genai_bench.score(pictures, out=str(tmp_path / "dry"), dry_run=True)
    assert f"{tmp_path}/dry/score.py {tmp_path}/dry/request.json" in command
    assert len(json.loads((tmp_path / "dry/request.json").read_text())["pictures"]) == 6
    (tmp_path / "t2v_metrics.py").write_text(T2V)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    skills = tmp_path / "skills.json"
    skills.write_text(json.dumps({"basic": ["00001", "00003"], "counting": [2], "none": [9]}))
    settings: dict[str, Any] = {"model": "clip-flant5-xl", "python": sys.executable}
    # graft samples prompts in random order, and one version of the benchmark counts its prompts from 1
    numbers = {"00002": {"prompt": PROMPTS[1]}, "00003": {"prompt": PROMPTS[2]}, "00001": {"prompt": PROMPTS[0]}}
    (tmp_path / "genai_image.json").write_text(json.dumps(numbers))
    prompts = str(tmp_path / "genai_image.json")
    text = genai_bench.score(pictures, prompts=prompts, skills=str(skills), out=str(tmp_path / "out"), **settings)
    scores = [i / 10 + len(PROMPTS[i % 3]) for i in range(6)]
    basic = [scores[i] for i in (0, 2, 3, 5)]
    assert [line.split()[:2] for line in text.splitlines()] == [
        ["basic", f"{sum(basic) / 4:.4f}"],
        ["counting", f"{(scores[1] + scores[4]) / 2:.4f}"],
        ["all", f"{sum(scores) / 6:.4f}"],
    ]
    tagged = genai_bench.score(pictures, out=str(tmp_path / "tags"), **settings)
    assert [line.split()[0] for line in tagged.splitlines()] == ["colors", "counting", "all"]
    for content, says in (
        (None, "genai_image.json, with --prompts"),
        ("[]", "prompts by number"),
        ("{}", "not one of"),
    ):
        if content is not None:
            (tmp_path / "genai_image.json").write_text(content)
        given = {"prompts": prompts} if content is not None else {}
        with pytest.raises(GraftError, match=says):
            genai_bench.score(pictures, skills=str(skills), out=str(tmp_path / "none"), dry_run=True, **given)


def test_faults_are_one_sentence(pictures: str, tmp_path: Path) -> None:
    code = checkout(tmp_path / "code", {"examples/dataset/color_val.txt": "\n".join([*PROMPTS, "a fourth"])})
    with pytest.raises(GraftError, match=r"1 of 4 prompts have no picture \(first: 'a fourth'\)"):
        t2i_compbench.score(pictures, "color", code, out=str(tmp_path / "a"))
    few, odd, same = (tmp_path / name for name in ("few.txt", "odd.txt", "same.txt"))
    few.write_text(PROMPTS[0])
    odd.write_text("a_b")
    same.write_text("\n".join(PROMPTS))
    with pytest.raises(GraftError, match=r"'two dogs' of 00001\.png is not one of the benchmark"):
        t2i_compbench.score(pictures, "color", code, str(few), out=str(tmp_path / "b"))
    with pytest.raises(GraftError, match="cannot read in a file's name"):
        t2i_compbench.score(pictures, "color", code, str(odd), out=str(tmp_path / "c"))
    with pytest.raises(GraftError, match=r"has no BLIPvqa_eval/BLIP_vqa\.py: clone https"):
        t2i_compbench.score(pictures, "color", code, str(same), out=str(tmp_path / "d"))
    with pytest.raises(GraftError, match="is not empty"):
        t2i_compbench.score(pictures, "color", code, str(same), out=str(tmp_path / "d"))
    checkout(tmp_path / "code", {"BLIPvqa_eval/BLIP_vqa.py": "raise SystemExit(3)"})
    with pytest.raises(GraftError, match=r"BLIP_vqa\.py ended with status 3"):
        t2i_compbench.score(pictures, "color", code, str(same), sys.executable, str(tmp_path / "e"))
    checkout(tmp_path / "code", {"BLIPvqa_eval/BLIP_vqa.py": "pass"})
    with pytest.raises(GraftError, match="wrote no results"):
        t2i_compbench.score(pictures, "color", code, str(same), sys.executable, str(tmp_path / "f"))
    with pytest.raises(GraftError, match="cannot be started"):
        t2i_compbench.score(pictures, "color", code, str(same), "/no/python", str(tmp_path / "g"))
    with pytest.raises(GraftError, match="give GenEval's evaluation_metadata"):
        geneval.score(pictures, code, code, out=str(tmp_path / "h"))
    with pytest.raises(GraftError, match="there is no file"):
        genai_bench.score(str(tmp_path / "nothing"), out=str(tmp_path / "i"))
