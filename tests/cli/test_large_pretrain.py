"""The configuration for graphics processors runs a few steps on a processor, from a small SMILES file."""

import gzip
import json
from pathlib import Path

import pytest
import torch
import yaml
from called import done

from domains.molecules.backbone import MessagePassingEGNN

CONFIG = ["--config", "domains/molecule_large_pretrain.yaml"]
SMILES = ["CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "CC(C)Cc1ccc(C(C)C(=O)O)cc1", "NS(=O)(=O)c1ccc(Cl)cc1"]
TINY = [
    *["--model.backbone.hidden_dim", "8", "--model.backbone.num_layers", "1", "--model.tuning.compile", "false"],
    *["--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.max_epochs", "2"],
    *["--data.batch_size", "2", "--data.embedding_workers", "1", "--model.steps", "4"],
    *["--data.evaluation.test_draws", "0", "--trainer.enable_progress_bar", "false"],
]


def test_sizes_and_precision() -> None:
    found = yaml.safe_load(done("pretrain", *CONFIG, "--data.max_heavy_atoms", "64", "--print_config").out)
    model, data, trainer = found["model"]["init_args"], found["data"]["init_args"], found["trainer"]
    assert (data["max_heavy_atoms"], data["convention"], model["convention"]) == (64, "drug_like", "drug_like")
    assert trainer["precision"] == "bf16-mixed" and model["tuning"]["compile"] and trainer["accelerator"] == "gpu"
    with torch.device("meta"):
        network = MessagePassingEGNN(**model["backbone"]["init_args"])
    assert 4e6 < sum(parameter.numel() for parameter in network.parameters()) < 8e6


def test_a_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with gzip.open("moses.smi.gz", "wt") as file:
        file.write("\n".join(SMILES * 2) + "\n")
    done("pretrain", *CONFIG, *TINY, "--data.source", "moses.smi.gz", "--run_dir", "large")
    assert list(Path("large").glob("*.safetensors"))
    lines = Path("large/metrics.csv").read_text().splitlines()
    assert len(lines) > 1
    assert json.loads(Path("large/summary.json").read_text())
