"""Commands that draw from a run's weights: their flags, and the model that the weights belong to."""

import sys
from pathlib import Path
from typing import Any

from graft import files, plain_yaml, runs
from graft.cli.parser import setup
from graft.errors import GraftError
from graft.runs import kept


def add_flags(parser: Any, number: int) -> None:
    """The flags of commands that draw from a run's weights."""
    parser.add_argument("--weights", type=str, required=True, help="A run's folder, or its weights file.")
    parser.add_argument("-n", "--number", type=int, default=number, help="How many objects.")
    needed = parser.prog != "graft evaluate"
    kind = str if needed else str | None
    parser.add_argument("--out", type=kind, required=needed, help="File; its suffix says the format.")
    parser.add_argument("--seed", type=int, default=0, help="Of the draws.")
    parser.add_argument(
        "--level", type=float | None, default=None, help="Hand over at this level instead of the run's."
    )
    parser.add_argument("--steps", type=int | None, default=None, help="Steps of the sampler instead of the run's.")
    if not needed:
        return
    parser.add_argument(
        "--clean",
        action="store_true",
        help="Mend small flaws of what is written (relax molecules' conformers); scored anew where there are scores.",
    )


def refuse_unwritable(model: Any, path: Path, *more: str) -> None:
    """Refuse a file that the domain cannot write before anything is drawn.

    Args:
        model: Of the domain.
        path: Where to write.
        *more: Suffixes that the command writes itself.

    Raises:
        GraftError: Its suffix is unknown.
    """
    known = [*dict.fromkeys([*model.suffixes, *more])]
    if model.suffixes and path.suffix.lower() not in known:
        names = ", ".join(each or "no suffix (a folder)" for each in known)
        raise GraftError(f"{type(model).__name__} cannot be written to {path}: its name must end in {names}")


def built(asked: Any, given: dict[str, Any], by_reward: str) -> Any:
    """The command line of the run whose weights are asked for, with them; with its data where a reward is needed.

    Args:
        asked: Flags of `add_flags`.
        given: Settings of the model that take the place of the run's.
        by_reward: What its reward is needed for; empty if it is not.
    """
    path = runs.weights_file(asked.weights)
    _, about = files.read_tensors(path)
    config = plain_yaml.load(about.get("config") or "null", f"the configuration in {path}")
    kept.refuse(about.get("config") or "", str(path), places=("model", *(("data.reward",) if by_reward else ())))
    if not config:
        raise GraftError(f"{path} does not say what model it belongs to: use graft predict --config … --weights {path}")
    _harmless(path, {name: config.get(name) for name in ("model", *(["data"] if by_reward else []))})
    model = config["model"]
    if about.get("reference"):
        model["init_args"]["weights"] = about["reference"]["path"]
    model["init_args"] |= {k: v for k, v in {"level": asked.level, "steps": asked.steps}.items() if v is not None}
    model["init_args"].pop("compile", None)  # its minute paid in training; for many samples it can be asked for anew
    model["init_args"] |= given
    settings = {"seed_everything": asked.seed, "model": model}
    if by_reward:
        if "reward" not in (config.get("data") or {}):
            raise GraftError(f"{path} belongs to a run without a reward, by which {by_reward}")
        cli, _ = setup("predict", {**settings, "data": config["data"]})
    else:
        cli, _ = setup("sample", settings)
    cli.model.load_weights(path)
    return cli


def _harmless(path: Path, config: Any) -> None:
    """Refuse a configuration that came with weights, which somebody else may have made, and names what no model is of.

    It builds classes that are installed here or lie in the current folder, with its settings; it cannot bring code.

    Raises:
        GraftError: It names something of Python's own library, or a program to start.
    """
    for key, value in runs.flat(config):
        name, last = str(value).partition(".")[0], key.rpartition(".")[2]
        if last in ("class_path", "path", "by") and name in sys.stdlib_module_names | {"builtins", "__main__"}:
            raise GraftError(f"{path} names {value} in its {key}, which no model needs: it is not to be trusted")
        if last == "python" and value is not None:
            raise GraftError(
                f"{path} would start {value} for its reward: use graft.load with a configuration you trust"
            )
