r"""Score pictures of GenAI-Bench's prompts with its authors' package t2v_metrics (Li et al. 2024, arXiv 2406.13743).

    graft sample --weights RUN -n 1600 --out drawn        # model.prompts: genai_image.json
    python -m domains.images.benchmarks.genai_bench --pictures drawn --prompts genai_image.json \
      --skills genai_skills.json --out scores

`t2v_metrics` may be installed in an environment of its own; ``--python`` names its interpreter.
"""

import json
from pathlib import Path

from domains.images.benchmarks.pictures import Sampled, empty_folder, read_pictures
from domains.images.benchmarks.programs import Program, call, read_results, table
from graft.cli.script import script
from graft.errors import GraftError
from graft.io.atomic import write_text
from graft.io.json_files import parse_json

URL = "https://github.com/linzhiqiu/t2v_metrics"
PROGRAM = '''"""Score pictures with t2v_metrics: {"model", "pictures": [{"image", "text"}]} in, [{"score"}] out."""

import json
import sys

import t2v_metrics

with open(sys.argv[1], encoding="utf-8") as file:
    request = json.load(file)
model = t2v_metrics.get_score_model(model=request["model"])
scores = [float(model(images=[each["image"]], texts=[each["text"]])) for each in request["pictures"]]
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump([{"score": score} for score in scores], file)
'''


def score(
    pictures: str,
    model: str = "clip-flant5-xxl",
    prompts: "str | None" = None,
    skills: "str | None" = None,
    python: str = "python",
    out: str = "genai_bench",
    dry_run: bool = False,
) -> str:
    """Return the mean VQAScore of each skill, and of all pictures, as text.

    Args:
        pictures: Folder of pictures by ``graft sample``.
        model: Name of the score model in t2v_metrics.
        prompts: ``genai_image.json`` of GenAI-Bench, the prompts by number; needed with ``skills``.
        skills: ``genai_skills.json`` of GenAI-Bench, numbers of prompts by skill; tags of the pictures if not given.
        python: Interpreter with t2v_metrics.
        out: Folder for the program, its input and the results.
        dry_run: Prepare the folder and return the command without running it.
    """
    found = read_pictures(pictures)
    by_skill = _skills(found, prompts, skills)
    folder = empty_folder(out)
    request = [{"image": str(each.path.resolve()), "text": each.prompt} for each in found]
    write_text(folder / "request.json", json.dumps({"model": model, "pictures": request}))
    write_text(folder / "score.py", PROGRAM)
    arguments = (str(folder / "request.json"), str(folder / "results.json"))
    command = call([Program("score.py", arguments)], str(folder), python, URL, dry_run)
    if dry_run:
        return command
    results = read_results(folder / "results.json")
    if len(results) != len(found):
        raise GraftError(f"{folder / 'results.json'} has {len(results)} scores for {len(found)} pictures: score again")
    values = [float(each["score"]) for each in results]
    rows = [(skill, sum(values[i] for i in rows) / len(rows), len(rows)) for skill, rows in by_skill.items() if rows]
    return table([*rows, ("all", sum(values) / len(values), len(values))])


def _skills(pictures: "list[Sampled]", prompts: "str | None", path: "str | None") -> dict[str, list[int]]:
    """Return the positions of the pictures of each skill.

    Raises:
        GraftError: The prompts have no numbers, or a picture has another prompt.
    """
    if path is None:
        tags = list(dict.fromkeys(each.tag for each in pictures if each.tag))
        return {tag: [i for i, each in enumerate(pictures) if each.tag == tag] for tag in tags}
    numbers = _numbers(prompts)
    if foreign := next((each for each in pictures if each.prompt not in numbers), None):
        raise GraftError(f"the prompt {foreign.prompt!r} of {foreign.path.name} is not one of {prompts}")
    try:
        found = parse_json(Path(path).read_text(encoding="utf-8-sig"))
        chosen = {str(skill): {int(number) for number in each} for skill, each in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise GraftError(
            f"{path} does not give numbers of prompts by skill ({error}): give genai_skills.json"
        ) from None
    return {
        skill: [i for i, each in enumerate(pictures) if numbers[each.prompt] & some] for skill, some in chosen.items()
    }


def _numbers(path: "str | None") -> dict[str, set[int]]:
    """Return the numbers of each prompt; its versions count from 0 or from 1, and pictures are in another order."""
    if path is None:
        raise GraftError(
            "--skills has numbers of prompts: give the file of the prompts, genai_image.json, with --prompts"
        )
    numbers: dict[str, set[int]] = {}
    try:
        for number, each in parse_json(Path(path).read_text(encoding="utf-8-sig")).items():
            numbers.setdefault(each["prompt"].strip(), set()).add(int(number))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise GraftError(f"{path} does not give prompts by number ({error}): give genai_image.json") from None
    return numbers


if __name__ == "__main__":
    script(score, __doc__)
