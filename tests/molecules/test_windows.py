"""Windows of descriptors as a filter of draws."""

import pytest
import torch

from domains.molecules.filters import DescriptorRange
from graft.errors import GraftError
from graft.filters import Candidates


def test_what_lies_outside_is_refused():
    keys = ["CCO", "CCCCCC", "", "c1ccccc1", "CCO", "nonsense"]
    rewards = torch.tensor([1.0, 2, 3, 4, float("nan"), 5], dtype=torch.float64)
    draws = Candidates(rewards, keys, torch.zeros(6, dtype=torch.long))
    left, spare = DescriptorRange("MolLogP", low=-1, high=1.7)(draws, [])
    assert left.tolist() == [True, False, False, True, False, False] and not spare.any()
    assert DescriptorRange("RingCount", low=1)(draws, [])[0].tolist() == [False, False, False, True, False, False]
    assert (
        str(DescriptorRange("MolLogP", low=-1, high=1.7)) == "MolLogP ≥ -1 and ≤ 1.7"
        and str(DescriptorRange("MolWt", high=9)) == "MolWt ≤ 9"
    )


@pytest.mark.parametrize("settings", [{}, {"low": 2, "high": 1}])
def test_windows_without_room(settings):
    with pytest.raises(GraftError, match="low, high or both"):
        DescriptorRange("MolWt", **settings)


def test_an_unknown_descriptor():
    with pytest.raises(GraftError, match="no descriptor 'Weight'"):
        DescriptorRange("Weight", low=1)
