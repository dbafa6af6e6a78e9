"""``graft new domain NAME``: write a package with a domain that runs."""

from pathlib import Path

from graft.commands.new_domain import write_domain
from graft.errors import GraftError

USAGE = """usage: graft new domain NAME [--folder FOLDER]

Write a package with a domain that runs and passes graft check, to be changed into your own.

  --folder FOLDER  folder of the package; ./NAME if not given
"""


def run(args: list[str]) -> None:
    """Write the package, and print the next commands."""
    if {"-h", "--help"} & set(args):
        print(USAGE)
        return
    words, folder = list(args), None
    if "--folder" in words:
        place = words.index("--folder")
        if place + 1 == len(words):
            raise GraftError("--folder needs a path")
        folder = words[place + 1]
        del words[place : place + 2]
    if len(words) != 2 or words[0] != "domain":
        raise GraftError("give the name of the domain: graft new domain NAME")
    path = write_domain(words[1], Path(folder if folder is not None else words[1]))
    name = words[1]
    print(
        f"wrote {path}; next:\n  cd {path}\n  graft check --config domains/{name}/{name}.yaml\n"
        f"  graft pretrain --config domains/{name}/pretrain.yaml\n"
        f"  graft fit --config domains/{name}/{name}.yaml --model.weights runs/pretrain/1/reference.safetensors"
    )
