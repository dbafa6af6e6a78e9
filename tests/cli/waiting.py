"""A process that runs the commands it is sent: a new process takes longer than most tests."""

import json
import os
import sys

import torch
from called import run


def main() -> None:
    """A line of JSON each way, until there are none."""
    mine = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        os.chdir(request["folder"])
        os.environ |= request["environment"]
        result = run(*request["args"])
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        print(json.dumps([result.status, result.out, result.err]), file=mine, flush=True)


if __name__ == "__main__":
    main()
