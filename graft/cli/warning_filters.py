"""Filters of Lightning's warnings that need no action of the user."""

import logging
import warnings

IGNORED_WARNINGS = [
    ".*does not have many workers.*",  # batches are indexed from memory
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run
    ".*LightningCLI's args parameter is intended.*",  # graft passes them
    ".*isinstance.treespec, LeafSpec.*",  # lightning 2.6 under torch 2.13
    ".*smaller than the logging interval.*",  # small data sets
    ".*but have no .val_dataloader.*",  # data without a validation part
    ".*Total length of .* across ranks is zero.*",  # no validation draws; a run resumed after its last round
    ".*your dataloader is not resumable.*",  # pre-training on a stream, interrupted within an epoch
    ".*The dirpath has changed.*",  # the folder of the run was moved
    ".*module.s. in eval mode at the start of training.*",  # the reference
    ".*recommended to use .self.log.*sync_dist=True.*",  # every rank logs the same value
    ".*Using .DistributedSampler. with the dataloaders.*",  # a repeated request is not evaluated twice
    r"(?s).*(JSONARGPARSE_DEPRECATION|deprecated\s+in\s+v4)",  # Lightning's calls of jsonargparse
]


def install_warning_filters() -> None:
    """Ignore `IGNORED_WARNINGS`, and Lightning's messages below warnings, in this process."""
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
