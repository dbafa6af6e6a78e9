"""Commands that draw from a run's weights: their flags, and the model that the weights belong to."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from graft import files, plain_yaml, runs
from graft.cli import allowed_classes
from graft.cli.parser import parse_and_build
from graft.errors import GraftError
from graft.module import GraftModule
from graft.network.weights import is_reference
from graft.runs import config_of_objects

NUMBERS = ("draws", "batch_size", "test_draws", "validation_draws")
"""Settings of a run's data that say how its rounds are stored; they are numbers, and build nothing."""


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
    parser.add_argument(
        "--trust",
        action="store_true",
        help="Build what config.yaml in the run's folder says, its reward too: of runs of your own only.",
    )
    parser.add_argument(
        "--data.reward", dest="reward", type=str | None, default=None, help="A reward, as of graft fit."
    )
    if not needed:
        return
    parser.add_argument(
        "--postprocess",
        action="store_true",
        help="Mend small flaws of what is written (relax molecules' conformers); scored anew where there are scores.",
    )


def check_output_suffix(model: Any, path: Path, *more: str) -> None:
    """Refuse a file that the domain cannot write before anything is drawn.

    Args:
        model: Of the domain.
        path: Where to write.
        *more: Suffixes that the command writes itself.

    Raises:
        GraftError: Its suffix is unknown.
    """
    known = [*dict.fromkeys([*model.file_suffixes, *more])]
    if model.file_suffixes and path.suffix.lower() not in known:
        names = ", ".join(each or "no suffix (a folder)" for each in known)
        raise GraftError(f"{type(model).__name__} cannot be written to {path}: its name must end in {names}")


def load_run(asked: Any, given: dict[str, Any], by_reward: str) -> Any:
    """Return the command line of the run that weights belong to, with them, and with its data where a reward is needed.

    The weights file says what the model is, and no more: it may be somebody else's. A reward comes from the
    configuration of the run's folder with ``--trust``, or from ``--data.reward``.

    Args:
        asked: Flags of `add_flags`.
        given: Settings of the model that take the place of the run's.
        by_reward: What its reward is needed for; empty if it is not.

    Raises:
        GraftError: The file names something that no model needs, or there is no reward.
    """
    path = runs.find_weights(asked.weights)
    _, about = files.read_tensors(path)
    if asked.trust:
        config = _trusted(asked, path, about, [f"model.{name}" for name in given], bool(by_reward))
    else:
        config = {"model": architecture(path, about, given)}
    model = config["model"]
    model["init_args"] = dict(model.get("init_args") or {})
    model["init_args"] |= {k: v for k, v in {"level": asked.level, "steps": asked.steps}.items() if v is not None}
    model["init_args"].pop("compile", None)  # its minute paid in training; for many samples it can be asked for anew
    model["init_args"] |= given
    settings = {"seed_everything": asked.seed, "model": model}
    command = "predict" if by_reward else "sample"
    if by_reward:
        settings["data"] = _data(path, asked, config.get("data"), by_reward)
    cli, _ = parse_and_build(
        command, settings, None if asked.trust else lambda model: allowed_classes.check_classes(path, model, given)
    )
    cli.model.load_weights(path)
    return cli


def _trusted(asked: Any, path: Path, about: dict[str, Any], given: list[str], rewarded: bool) -> dict[str, Any]:
    """Return the configuration in a run's folder, with the file of the reference where it is now."""
    folder = _run(Path(asked.weights))
    file = folder / "config.yaml"
    if not file.is_file():
        raise GraftError(
            f"--trust is for the folder of a run with its config.yaml, and {asked.weights} is none: leave it out"
        )
    config: Any = plain_yaml.read(file)
    given = [*given, *(["data.reward"] if asked.reward is not None else [])]
    config_of_objects.refuse(
        file.read_text(encoding="utf-8-sig"), str(file), given, ("model", *(("data.reward",) if rewarded else ()))
    )
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise GraftError(f"{folder / 'config.yaml'} is no configuration of a run: it has no model")
    if not isinstance(config["model"].get("init_args") or {}, dict):
        raise GraftError(f"{folder / 'config.yaml'} is no configuration of a run: model.init_args are no settings")
    with suppress(GraftError):  # a pipeline's folder, which is as the configuration says
        if about.get("reference"):
            reference = _reference(path, about["reference"])
            config["model"]["init_args"] = {**(config["model"].get("init_args") or {}), "weights": reference}
    return dict(config)


def _run(folder: Path) -> Path:
    """Return the folder of the run that a folder is, or is a round of."""
    own = (folder / "config.yaml").is_file() or folder.resolve().parent.name != "rounds"
    return folder if own else folder.resolve().parent.parent


def architecture(path: Path, about: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the checked model of a weights file, ``class_path`` and ``init_args``, with the file of its reference.

    Args:
        path: The weights file.
        about: What its header says; files of earlier versions say the whole configuration, whose model alone is read.
        given: Settings of the model that the command line gives in the place of the file's, which are not looked at.

    Raises:
        GraftError: It names something that no model needs, or its reference is not here.
    """
    model, unsaid = about.get("architecture"), about.get("unsaid")
    if isinstance(unsaid, dict):
        holes = "".join(f"{config_of_objects.MISSING}{place} ({str(what)[:200]})\n" for place, what in unsaid.items())
        config_of_objects.refuse(holes, str(path), [f"model.{name}" for name in given], ("model",))
    if model is None and isinstance(text := about.get("config"), str):
        config_of_objects.refuse(text, str(path), [f"model.{name}" for name in given], ("model",))
        config = plain_yaml.load(text or "null", f"the configuration in {path}")
        model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("init_args") or {}, dict):
        model = None
    else:
        leave = {*given, *GraftModule.only_training}
        model = {**model, "init_args": {k: v for k, v in (model.get("init_args") or {}).items() if k not in leave}}
    allowed_classes.check(path, model)
    assert model is not None
    reference = about.get("reference")
    if reference and "weights" not in given:
        model["init_args"]["weights"] = _reference(path, reference)
    return model


def _reference(path: Path, reference: Any) -> str:
    """Return the file of the reference that weights were tuned from: of its name or the run's settings, by its hash."""
    reference = reference if isinstance(reference, dict) else {}
    name = str(reference.get("path", ""))
    for place in _places(path, name, str(reference.get("relative_path", ""))):
        if "://" in place or place.startswith(("//", "\\\\")):
            continue
        try:
            file = files.find_file(place)
            if is_reference(file, reference.get("sha256")):
                return place
        except (GraftError, OSError, ValueError):
            continue
    raise GraftError(
        f"{path} was tuned from the reference {name[:200]!r}, which is not here or has changed: give it with "
        "--model.weights FILE, or, if the run is your own, name its folder with --weights and add --trust"
    )


def _places(path: Path, name: str, relative: str) -> Iterator[str]:
    """Yield where a reference may be: by its name, by its path from the weights, and as the run's settings say."""
    if name:
        yield name
        yield str(path.parent / name)
    if relative:
        yield str(path.parent / relative)
    for folder in (path.parent, path.parent.parent.parent):  # of a run, and of one of its rounds
        try:
            config = plain_yaml.read(folder / "config.yaml") if (folder / "config.yaml").is_file() else None
        except GraftError:
            continue
        model = config.get("model") if isinstance(config, dict) else None
        settings = model.get("init_args") if isinstance(model, dict) else None
        if isinstance(settings, dict) and isinstance(settings.get("weights"), str):
            yield settings["weights"]


def _data(path: Path, asked: Any, said: Any, by_reward: str) -> dict[str, Any]:
    """Return the settings of the data: those of a trusted run, or the reward of the command line alone."""
    data: dict[str, Any] = dict(said) if isinstance(said, dict) else {}
    if asked.reward is None and not data.get("reward"):
        folder = Path(asked.weights)
        own = f", or add --trust to take that of {folder}" if folder.is_dir() and not asked.trust else ""
        raise GraftError(
            f"{path} has no reward, by which {by_reward}: name one with --data.reward package.module.function{own}"
        )
    if asked.reward is not None:
        numbers = {name: data[name] for name in NUMBERS if name in data}
        if not numbers and (config := Path(asked.weights) / "config.yaml").is_file():
            content = plain_yaml.read(config)
            theirs = content.get("data") if isinstance(content, dict) else None
            theirs = theirs if isinstance(theirs, dict) else {}
            numbers = {k: v for k, v in theirs.items() if k in NUMBERS and type(v) is int}
        data = {**data, **numbers, "reward": plain_yaml.load(asked.reward, "the value of --data.reward")}
    return data
