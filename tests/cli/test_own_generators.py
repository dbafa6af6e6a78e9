"""docs/extending/own_generators.md: its file and its configuration run as they stand, with small settings."""

import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from called import QUIET, SMALL, done
from rdkit import Chem

from domains.molecules import chemistry

PAGE = (Path(__file__).parents[2] / "docs/extending/own_generators.md").read_text(encoding="utf-8")
ONE = ["--trainer.max_epochs", "1", "--data.evaluation.validation_draws", "0"]


def block(mark: str) -> str:
    (found,) = re.findall(rf"<!-- {re.escape(mark)} -->\n```\w*\n(.*?)```", PAGE, re.DOTALL)
    return found


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name in ("own_generator.py", "own_generator.yaml", "own_reward.py"):
        (tmp_path / name).write_text(block(f"file: {name}"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("own_generator")
    sys.modules.pop("own_generator")


def test_length() -> None:
    """The page promises a length, of the file without the network that the library has."""
    lines = [line for line in block("file: own_generator.py").splitlines() if line]
    start = next(i for i, line in enumerate(lines) if line.startswith("class Denoiser"))
    assert len(lines) - start < 90


@pytest.fixture
def module(own: ModuleType) -> Any:
    """The model of the configuration, built by the command line's own parser of classes."""
    fields = yaml.safe_load(block("file: own_generator.yaml"))["model"]["init_args"]["process"]["init_args"]["fields"]
    import graft.process as processes

    def built(about: dict[str, Any]) -> Any:
        settings = {
            name: built(value) if isinstance(value, dict) else value
            for name, value in about.get("init_args", {}).items()
        }
        return getattr(processes, about["class_path"].split(".")[-1])(**settings)

    process = processes.MultiFieldProcess({name: built(about) for name, about in fields.items()})
    return own.OwnMolecules(own.Denoiser(), process, steps=4)


def decoded(own: ModuleType, module: Any, atoms: list[str], charges: list[int], bonds: dict[Any, Any]) -> Any:
    """Decode atoms at positions without information about the bonds."""
    n, slots = len(atoms), module.slots
    state = {
        "x": torch.randn(1, slots, 3) * 10,
        "h": torch.zeros(1, slots, len(own.ELEMENTS)),
        "charge": torch.zeros(1, slots, len(own.CHARGES)),
        "bonds": torch.zeros(1, slots, slots, len(own.BONDS)),
    }
    for i in range(n):
        state["h"][0, i, own.ELEMENTS.index(atoms[i])] = 1
        state["charge"][0, i, own.CHARGES.index(charges[i])] = 1
    for (i, j), kind in bonds.items():
        state["bonds"][0, [i, j], [j, i], own.BONDS.index(kind)] = 0.7
    return module.decode(state, {"mask": (torch.arange(slots) < n).float()[None]})[0]


def test_bonds_are_those_of_the_network(own: ModuleType, module: Any) -> None:
    kinds = Chem.BondType
    cases: list[tuple[list[str], list[int], dict[Any, Any], str]] = [
        (["C", "O", "H", "H"], [0] * 4, {(0, 1): kinds.DOUBLE, (0, 2): kinds.SINGLE, (3, 0): kinds.SINGLE}, "C=O"),
        (["N", *"HHHH"], [1, 0, 0, 0, 0], {(0, i): kinds.SINGLE for i in range(1, 5)}, "[NH4+]"),
        (
            [*"CCCCCC", *"HHHHHH"],
            [0] * 12,
            {(i, (i + 1) % 6): kinds.AROMATIC for i in range(6)} | {(i, i + 6): kinds.SINGLE for i in range(6)},
            "c1ccccc1",
        ),
        (["C", "O"], [0, 0], {(0, 1): kinds.DOUBLE}, ""),  # two electrons are left at the carbon
        (["O", *"HHH"], [0] * 4, {(0, i): kinds.SINGLE for i in (1, 2, 3)}, ""),
    ]
    for atoms, charges, bonds, smiles in cases:
        mol = decoded(own, module, atoms, charges, bonds)
        assert chemistry.molecule_key(mol) == smiles and mol.GetNumBonds() == len(bonds), (
            atoms,
            chemistry.molecule_key(mol),
        )
        assert chemistry.is_valid(mol) == bool(smiles)


def test_every_state_of_the_sampler_has_symmetric_bonds(module: Any) -> None:
    from graft.core.datatypes import SampleRequest

    condition = module.sample_conditions(3, torch.Generator().manual_seed(0))
    request = SampleRequest(condition, ("a", 0), record=(0.5,))
    found = module.policy.sample(request, torch.Generator().manual_seed(1))
    mask = condition["mask"].bool()
    for state in (found.state, *found.states.values()):
        bonds = state["bonds"]
        assert torch.equal(bonds, bonds.transpose(1, 2)) and not bonds.diagonal(dim1=1, dim2=2).any()
        assert bonds.any() and not bonds[~(mask[:, :, None] & mask[:, None])].any()
        assert torch.equal(state["h"].sum(-1), condition["mask"])  # one-hots


def test_fit_tunes_the_network_of_the_library(own: ModuleType, tmp_path: Path) -> None:
    torch.save(own.Network().state_dict(), "checkpoint.pt")
    words = shlex.split(block("own").strip())
    assert words[:2] == ["graft", "fit"]
    done(*words[1:], *SMALL, *ONE, *QUIET)
    summary = json.loads(Path("own/summary.json").read_text())
    assert summary["reward_calls"] > 0 and summary["rounds"][0]["failed_rewards"] == 0
    assert 0 <= summary["tuned"]["validity"] <= 1 and Path("own/samples/reference.png").exists()
    with Chem.SDMolSupplier("own/samples/tuned.sdf", sanitize=False, removeHs=False) as found:
        assert len(found) == 32 and sum(mol.GetNumBonds() for mol in found) > 0
