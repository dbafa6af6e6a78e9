"""Less chatter: warnings of Lightning's that are not the user's to act on."""

import logging
import warnings

IGNORED_WARNINGS = [
    ".*does not have many workers.*",  # batches are indexed from memory
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run's
    ".*LightningCLI's args parameter is intended.*",  # it is given them by us
    ".*isinstance.treespec, LeafSpec.*",  # lightning 2.6 under torch 2.13
    ".*smaller than the logging interval.*",  # small data sets
    ".*but have no .val_dataloader.*",  # data without a validation part
    ".*Total length of .* across ranks is zero.*",  # no validation draws; a run resumed after its last round
    ".*your dataloader is not resumable.*",  # pre-training on a stream, interrupted within an epoch
    ".*The dirpath has changed.*",  # of a run whose folder was moved
    ".*module.s. in eval mode at the start of training.*",  # the reference
    ".*recommended to use .self.log.*sync_dist=True.*",  # every process logs what all of them found
    ".*Using .DistributedSampler. with the dataloaders.*",  # a repeated request is not judged twice
    r"(?s).*(JSONARGPARSE_DEPRECATION|deprecated\s+in\s+v4)",  # Lightning's calls of jsonargparse
]


def install_warning_filters() -> None:
    """Turn it down, for this process."""
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
