"""``--seed_everything true``: a random seed, which the run's configuration keeps, so that the run can be repeated."""

import os
import secrets
from collections.abc import Sequence
from typing import Any

from graft import runs
from graft.cli.configs import config_name
from graft.errors import GraftError

INHERITED = "GRAFT_SEED"  # of the processes that Lightning starts for a run: the first one's seed
PLACES = ("model.init_args.seed", "data.seed")  # that the seed is linked to


def settle(config: Any, args: "Sequence[str] | dict[str, Any]") -> "int | None":
    """Put a random number in the place of ``true``; a run that goes on keeps its own.

    Args:
        config: Of the command, parsed; changed in place.
        args: Of the command line.

    Returns:
        The number; None where the seed is not ``true``.

    Raises:
        GraftError: Several processes would each have a seed of their own.
    """
    if config.get("seed_everything") is not True:
        return None
    seed = _of_the_run(config, args)
    if seed is None and os.environ.get("LOCAL_RANK", "0") != "0" and INHERITED in os.environ:
        seed = int(os.environ[INHERITED])
    if seed is None and _started_apart(config):
        raise GraftError(
            "seed_everything is true, but the processes of this run are started apart from one another; it must be a "
            "number, so that all have the same"
        )
    seed = secrets.randbelow(2**31) if seed is None else seed
    os.environ[INHERITED] = str(seed)
    config["seed_everything"] = seed
    for place in PLACES:
        if place in config:
            config[place] = seed
    return seed


def _of_the_run(config: Any, args: "Sequence[str] | dict[str, Any]") -> "int | None":
    """The seed of the run that is gone on with."""
    if not config.get("ckpt_path"):
        return None
    name = config_name(list(args)) if not isinstance(args, dict) else "run"
    settings = runs.recorded(config.get("run_dir"), name, config["ckpt_path"])
    seed = settings.get("seed_everything")
    return seed if type(seed) is int else None


def _started_apart(config: Any) -> bool:
    """By torchrun or srun, or on several nodes: this process is not the one that starts the others."""
    several = any(os.environ.get(name, "1") not in ("", "0", "1") for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    return several or (config.get("trainer.num_nodes") or 1) != 1
