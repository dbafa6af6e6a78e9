"""Score pictures of GenAI-Bench's prompts with its authors' package t2v_metrics (Li et al. 2024, arXiv 2406.13743).

    graft sample --weights RUN -n 1600 --out drawn        # model.prompts: genai_image.json
    python -m domains.images.benchmarks.genai_bench --pictures drawn --skills genai_skills.json --out scores

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
    skills: "str | None" = None,
    python: str = "python",
    out: str = "genai_bench",
    dry_run: bool = False,
) -> str:
    """Return the mean VQAScore of each skill, and of all pictures, as text.

    Args:
        pictures: Folder of pictures by ``graft sample``.
        model: Name of the score model in t2v_metrics.
        skills: ``genai_skills.json`` of GenAI-Bench, numbers of prompts by skill; tags of the pictures if not given.
        python: Interpreter with t2v_metrics.
        out: Folder for the program, its input and the results.
        dry_run: Prepare the folder and return the command without running it.
    """
    found = read_pictures(pictures)
    by_skill = _skills(found, skills)
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


def _skills(pictures: "list[Sampled]", path: "str | None") -> dict[str, list[int]]:
    """Return the positions of the pictures of each skill.

    GenAI-Bench numbers its prompts from 0 in the order of ``genai_image.json``, which is that of the pictures.
    """
    if path is None:
        tags = list(dict.fromkeys(each.tag for each in pictures if each.tag))
        return {tag: [i for i, each in enumerate(pictures) if each.tag == tag] for tag in tags}
    try:
        found = parse_json(Path(path).read_text(encoding="utf-8-sig"))
        order = {prompt: i for i, prompt in enumerate(dict.fromkeys(each.prompt for each in pictures))}
        places = [order[each.prompt] for each in pictures]
        return {
            str(skill): [i for i, place in enumerate(places) if place in {int(number) for number in numbers}]
            for skill, numbers in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise GraftError(
            f"{path} does not give numbers of prompts by skill ({error}): give genai_skills.json"
        ) from None


if __name__ == "__main__":
    script(score, __doc__)
