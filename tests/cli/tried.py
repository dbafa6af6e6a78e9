"""Rewards as users write them, for the tests; the command line finds this module by its name."""

import math
import os
import time
from pathlib import Path
from typing import Any

from graft.reward import Reward, ScoredForm


def spread(item: Any) -> float:
    """Return the spread of the atoms in Å, or of a point, around the centre; every object has one."""
    if isinstance(item, tuple):
        return math.hypot(*item)
    return float((item.GetConformer().GetPositions() ** 2).sum(1).mean() ** 0.5)


class Grown(Reward):
    """`spread` of a molecule that is twice as large; the scored form of a molecule of three atoms is unknown."""

    name, unit = "size of the grown", "Å"

    def score(self, item: Any) -> float:
        return 2 * spread(item)

    def scored_form(self, item: Any) -> ScoredForm:
        if item.GetNumAtoms() == 3:
            raise ValueError("no form")
        item.GetConformer().SetPositions(2 * item.GetConformer().GetPositions())
        return ScoredForm(item, spread(item))


def narrow(mol: Any) -> float:
    """The other way round."""
    return -spread(mol)


def _every_third(mol: Any, trouble: Any) -> Any:
    value = spread(mol)
    return trouble() if int(value * 1e4) % 3 == 0 else value


def raises_for_some(mol: Any) -> float:
    return _every_third(mol, lambda: 1 / 0)


def nan_for_some(mol: Any) -> float:
    return _every_third(mol, lambda: math.nan)


def hangs_for_one(mol: Any) -> float:
    """Once in a folder."""
    if _first_time("hung"):
        time.sleep(600)
    return spread(mol)


def raises(mol: Any) -> float:
    raise ValueError("the docking program is not installed")


def fails_in_another_process(mol: Any) -> float:
    """Fail in one of several processes."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        raise ConnectionError("no licence server on this node")
    return spread(mol)


def one_short(mols: list[Any]) -> list[float]:
    return [spread(mol) for mol in mols][1:]


def works_for_a_while(mol: Any) -> float:
    """Fail after some calls, like a service that goes down."""
    global left
    left -= 1
    if left < 0:
        raise ConnectionError("no answer from the service")
    return spread(mol)


left = 0


def _first_time(marker: str) -> bool:
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def kills_for_one(mol: Any) -> float:
    """The first object kills the process, once in a folder."""
    if _first_time("killed"):
        os.kill(os.getpid(), 9)
    return spread(mol)
