"""Score pictures of T2I-CompBench++'s prompts with its own programs (Huang et al. 2023, arXiv 2307.06350).

    graft sample --weights RUN -n 3000 --out drawn        # model.prompts: color_val.txt; 10 for each prompt
    python -m domains.images.benchmarks.t2i_compbench --pictures drawn --category color --code T2I-CompBench

The category ``complex`` needs the prompts of ``complex_val.txt`` with 10 pictures each, which its last program expects.
The programs need the environment and weights of their repository; ``--python`` names its interpreter.
"""

from pathlib import Path
from typing import Literal

from domains.images.benchmarks.pictures import by_prompt, copy_to, empty_folder, read_pictures
from domains.images.benchmarks.programs import Program, call, read_results, table
from graft.cli.script import script
from graft.errors import GraftError
from graft.io import text

URL = "https://github.com/Karine-Huang/T2I-CompBench"
Category = Literal["color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex"]
RESULTS = {
    "color": "annotation_blip",
    "shape": "annotation_blip",
    "texture": "annotation_blip",
    "spatial": "labels/annotation_obj_detection_2d",
    "3d_spatial": "labels/annotation_obj_detection_3d",
    "numeracy": "annotation_num",
    "non_spatial": "annotation_clip",
    "complex": "annotation_3_in_1",
}
"""Folder of the results of each category, below that of the pictures."""


def score(
    pictures: str,
    category: Category,
    code: str,
    prompts: "str | None" = None,
    python: str = "python",
    out: str = "t2i_compbench",
    dry_run: bool = False,
) -> str:
    """Return the mean score of a category as text.

    Args:
        pictures: Folder of pictures by ``graft sample``, for the prompts of one category.
        category: Category of the prompts.
        code: Folder with a checkout of T2I-CompBench's repository.
        prompts: File of the prompts; that of the checkout if not given.
        python: Interpreter with the packages of T2I-CompBench.
        out: Folder for the pictures under the names that the programs read, and for the results.
        dry_run: Prepare the folder and return the commands without running them.
    """
    if category not in RESULTS:
        raise GraftError(f"--category is {category!r}; it must be one of {', '.join(RESULTS)}")
    path = Path(prompts) if prompts is not None else Path(code) / "examples/dataset" / f"{category}_val.txt"
    groups = by_prompt(read_pictures(pictures), _prompts(path))
    folder = empty_folder(out, category)
    number = 0
    for group in groups:
        for picture in group:
            copy_to(picture, folder / "samples" / f"{picture.prompt}_{number:06d}.png")
            number += 1
    commands = call(_programs(category, folder), code, python, URL, dry_run)
    if dry_run:
        return commands
    results = folder / RESULTS[category] / "vqa_result.json"
    try:
        values = [float(each["answer"]) for each in read_results(results)]
    except (KeyError, TypeError, ValueError) as error:
        raise GraftError(f"{results} has no answer that is a number ({error}): see the program's output") from None
    return table([(category, sum(values) / len(values), len(values))])


def _programs(category: str, folder: Path) -> list[Program]:
    """Return the programs of a category, as the repository's README calls them."""
    whole = ("--complex", "True") if category == "complex" else ()
    blip = Program("BLIPvqa_eval/BLIP_vqa.py", ("--out_dir", str(folder)), "BLIPvqa_eval")
    objects = ("--outpath", str(folder))
    flat = Program("UniDet_eval/2D_spatial_eval.py", (*objects, *whole), "UniDet_eval")
    clip = Program("CLIPScore_eval/CLIP_similarity.py", ("--outpath", f"{folder}/", *whole))
    programs = {
        "spatial": [flat],
        "3d_spatial": [Program("UniDet_eval/3D_spatial_eval.py", objects, "UniDet_eval")],
        "numeracy": [Program("UniDet_eval/numeracy_eval.py", objects, "UniDet_eval")],
        "non_spatial": [clip],
        "complex": [blip, flat, clip, Program("3_in_1_eval/3_in_1.py", ("--outpath", f"{folder}/"), "3_in_1_eval")],
    }
    return programs.get(category, [blip])


def _prompts(path: Path) -> list[str]:
    """Return the prompts of a file.

    Raises:
        GraftError: The file is missing, or a prompt has a character that the programs read as the end of the prompt.
    """
    try:
        found = [line.strip() for line in text.split_lines(text.read_utf8(path)) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise GraftError(f"{path} cannot be read ({error}): give the prompts with --prompts") from None
    for prompt in found:
        if "_" in prompt or "/" in prompt:
            raise GraftError(
                f"the prompt {prompt!r} has '_' or '/', which T2I-CompBench's programs cannot read in a file's name. "
                "Leave it out"
            )
    if not found:
        raise GraftError(f"there are no prompts in {path}: give one in each line")
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    script(score, __doc__)
