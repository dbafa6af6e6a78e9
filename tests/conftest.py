"""What all tests share."""

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: more threads each would only wait for one another
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
    torch.set_num_threads(1)
