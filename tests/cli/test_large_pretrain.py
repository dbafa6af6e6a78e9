"""The configuration for graphics processors runs a few steps on a processor, from a small file."""

import csv
import gzip
import math
from pathlib import Path

import pytest
import torch
import yaml
from called import done
from rdkit import Chem
from rdkit.Chem import AllChem
from safetensors.torch import load_file

from domains.molecules.backbone import MessagePassingEGNN

CONFIG = ["--config", "domains/molecule_large_pretrain.yaml"]
SMILES = ["CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "CC(C)Cc1ccc(C(C)C(=O)O)cc1", "NS(=O)(=O)c1ccc(Cl)cc1"]
LARGE = "O=C(NCC(=O)NCC(=O)NCC(=O)NCC(=O)NCC(=O)NCC(=O)NCc1ccccc1)Nc1ccc(Cl)cc1"  # 42 heavy atoms
TINY = [
    *["--model.backbone.hidden_dim", "8", "--model.backbone.num_layers", "1", "--model.tuning.compile", "false"],
    *["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.strategy", "auto"],
    *["--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1", "--trainer.enable_progress_bar", "false"],
    *["--data.batch_size", "2", "--data.embedding_workers", "1", "--model.steps", "4"],
]


def conformers(path: Path) -> None:
    """Write molecules with hydrogens and a conformer, as GEOM has them."""
    with Chem.SDWriter(str(path)) as writer:
        for smiles in [*SMILES, LARGE]:
            mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
            assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
            writer.write(mol)


def test_sizes_precision_and_strategy() -> None:
    found = yaml.safe_load(done("pretrain", *CONFIG, "--print_config").out)
    model, data, trainer = found["model"]["init_args"], found["data"]["init_args"], found["trainer"]
    assert data["max_heavy_atoms"] == model["max_atoms"] == 64
    assert data["convention"] == model["convention"] == "drug_like" and data["max_embedded"] is None
    assert trainer["precision"] == "bf16-mixed" and model["tuning"]["compile"]
    assert (trainer["accelerator"], trainer["devices"], trainer["strategy"]) == ("gpu", "auto", "ddp")
    with torch.device("meta"):
        network = MessagePassingEGNN(**model["backbone"]["init_args"])
    assert 4e6 < sum(parameter.numel() for parameter in network.parameters()) < 8e6


@pytest.mark.parametrize(
    ("source", "precision"),
    [
        pytest.param("geom.sdf", "bf16-mixed", marks=pytest.mark.slow),  # bf16 is slow on processors
        ("moses.smi.gz", "32-true"),
    ],
)
def test_a_few_steps(source: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if source == "geom.sdf":
        conformers(tmp_path / source)
    else:
        with gzip.open(source, "wt") as file:
            file.write("\n".join(SMILES) + "\n")
    done("pretrain", *CONFIG, *TINY, "--trainer.precision", precision, "--data.source", source, "--run_dir", "large")
    tensors = load_file("large/reference.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    with open("large/metrics.csv", newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]
    assert len(losses) >= 2 and all(map(math.isfinite, losses))
