"""Processes that a launcher such as torchrun started."""

import pytest
from lightning.pytorch import LightningModule

from graft import commands
from graft.core.distributed import launch
from graft.errors import GraftError


@pytest.mark.parametrize(("devices", "processes"), [(1, 2), (2, 3)])
def test_another_number_of_processes_than_the_settings_say(
    devices: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": processes, "RANK": 0, "LOCAL_RANK": 0, "GROUP_RANK": 0}
    for name, value in {**given, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    trainer = commands.trainer(accelerator="cpu", devices=devices, strategy="ddp")
    with pytest.raises(GraftError, match=f"devices is {devices} and .* torchrun or Slurm started. Set both"):
        launch(trainer, LightningModule())
