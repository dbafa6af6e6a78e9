"""Score pictures of GenEval's prompts with GenEval's own program (Ghosh et al. 2023, arXiv 2310.11513).

    graft sample --weights RUN -n 2212 --out drawn        # model.prompts: evaluation_metadata.jsonl; 4 for each prompt
    python -m domains.images.benchmarks.geneval --pictures drawn --code geneval --detector models --out scores

The program needs the environment of its repository, with mmdet and a Mask2Former; ``--python`` names its interpreter.
"""

import json
from pathlib import Path

from domains.images.benchmarks.pictures import by_prompt, copy_to, empty_folder, read_pictures
from domains.images.benchmarks.programs import Program, call, read_results, table
from graft.cli.script import script
from graft.errors import GraftError
from graft.io import text
from graft.io.atomic import write_text
from graft.io.json_files import parse_json

URL = "https://github.com/djghosh13/geneval"


def score(
    pictures: str,
    code: str,
    detector: str,
    metadata: "str | None" = None,
    python: str = "python",
    out: str = "geneval",
    dry_run: bool = False,
) -> str:
    """Return the share of right pictures for each task, and their mean, as text.

    Args:
        pictures: Folder of pictures by ``graft sample``.
        code: Folder with a checkout of GenEval's repository.
        detector: Folder with the weights of the object detector.
        metadata: File of GenEval's prompts; that of the checkout if not given.
        python: Interpreter with the packages of GenEval.
        out: Folder for the pictures in GenEval's order and for the results.
        dry_run: Prepare the folder and return the command without running it.
    """
    lines = _metadata(Path(metadata) if metadata is not None else Path(code) / "prompts/evaluation_metadata.jsonl")
    groups = by_prompt(read_pictures(pictures), [line["prompt"].strip() for line in lines])
    folder = empty_folder(out)
    for number, (line, group) in enumerate(zip(lines, groups, strict=True)):
        place = folder / "pictures" / f"{number:05d}"
        for i, picture in enumerate(group):
            copy_to(picture, place / "samples" / f"{i:04d}.png")
        write_text(place / "metadata.jsonl", json.dumps(line))
    results = folder / "results.jsonl"
    arguments = (str(folder / "pictures"), "--outfile", str(results), "--model-path", str(Path(detector).resolve()))
    command = call([Program("evaluation/evaluate_images.py", arguments)], code, python, URL, dry_run)
    return command if dry_run else summary(results)


def summary(results: Path) -> str:
    """Return the share of right pictures of each task, and the mean over the tasks, which is GenEval's score."""
    right: dict[str, list[bool]] = {}
    for each in read_results(results, of_lines=True):
        right.setdefault(str(each.get("tag")), []).append(each.get("correct") is True)
    rows = [(tag, sum(found) / len(found), len(found)) for tag, found in right.items()]
    total = sum(count for _, _, count in rows)
    return table([*rows, ("GenEval", sum(share for _, share, _ in rows) / len(rows), total)])


def _metadata(path: Path) -> "list[dict[str, str]]":
    try:
        lines = [parse_json(line) for line in text.split_lines(text.read_utf8(path)) if line.strip()]
    except (OSError, ValueError) as error:
        raise GraftError(f"{path} cannot be read ({error}): give GenEval's evaluation_metadata.jsonl") from None
    if not lines or not all(isinstance(line, dict) and isinstance(line.get("prompt"), str) for line in lines):
        raise GraftError(f"{path} has lines without a prompt: give GenEval's evaluation_metadata.jsonl")
    return lines


if __name__ == "__main__":
    script(score, __doc__)
