"""``--seed_everything true``: a random seed, which the run's configuration keeps, so that the run can be repeated."""

import os
import secrets
from collections.abc import Sequence
from typing import Any

from graft import runs
from graft.cli.configs import config_name
from graft.errors import GraftError

INHERITED = "GRAFT_SEED"  # passes the seed of rank 0 to the ranks that Lightning starts
PLACES = ("model.init_args.seed", "data.seed")  # settings that the parser links to the seed


def choose_seed(config: Any, args: "Sequence[str] | dict[str, Any]") -> "int | None":
    """Replace the seed ``true`` by a random number and return the number; a resumed run keeps its number.

    Args:
        config: Parsed configuration of the command; changed in place.
        args: Arguments of the command line.

    Returns:
        None where the seed is not ``true``.

    Raises:
        GraftError: The ranks of the job cannot agree on a random seed.
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
    """Return the seed of the run that is resumed; None if there is none."""
    if not config.get("ckpt_path"):
        return None
    name = config_name(list(args)) if not isinstance(args, dict) else "run"
    settings = runs.recorded(config.get("run_dir"), name, config["ckpt_path"])
    seed = settings.get("seed_everything")
    return seed if type(seed) is int else None


def _started_apart(config: Any) -> bool:
    """Return whether torchrun, srun or several nodes start the ranks, so that this process starts none."""
    several = any(os.environ.get(name, "1") not in ("", "0", "1") for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    return several or (config.get("trainer.num_nodes") or 1) != 1
