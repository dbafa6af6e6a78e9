"""``graft check``: try every hook of a domain on three samples."""

from lightning.pytorch import LightningDataModule

from graft.cli.parser import parse_and_build
from graft.commands.check import check_domain, faults
from graft.errors import GraftError
from graft.io.paths import find_file
from graft.pretrained.parsing import read_config


def run(args: list[str]) -> None:
    """Build the domain of a configuration, and print a line for each hook."""
    trains_on_data = any(_has_data_set(path) for path in _paths(args))
    cli, _ = parse_and_build("pretrain" if trains_on_data else "fit", args)
    data = cli.datamodule if isinstance(cli.datamodule, LightningDataModule) else None
    kind = type(cli.model)
    print(f"{kind.__module__}.{kind.__qualname__}")
    trials = check_domain(cli.model, data)
    for trial in trials:
        print(f"  {trial}")
    found = faults(trials)
    if found:
        more = f" ({len(found) - 1} more above)" if len(found) > 1 else ""
        raise GraftError(f"{found[0]}{more}")
    print("no fault found")


def _paths(args: list[str]) -> list[str]:
    """Return the configurations of the arguments."""
    given = [args[i + 1] for i, arg in enumerate(args[:-1]) if arg in ("--config", "-c")]
    return given + [arg.partition("=")[2] for arg in args if arg.startswith(("--config=", "-c="))]


def _has_data_set(name: str) -> bool:
    """Return True if a configuration is one of ``graft pretrain``."""
    try:
        path = find_file(name)
    except GraftError:  # the parser names the configurations that exist
        return False
    data = read_config(str(path)).get("data")
    return isinstance(data, str) or (isinstance(data, dict) and "class_path" in data)
