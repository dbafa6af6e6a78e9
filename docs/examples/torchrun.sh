#!/bin/bash
# A run on several nodes without a scheduler. Call it on each node with its number:
#   NODES=2 NODE=0 HOST=first-node docs/examples/torchrun.sh
#   NODES=2 NODE=1 HOST=first-node docs/examples/torchrun.sh
# DEVICES is the number of devices of a node. Further arguments are settings, such as --trainer.accelerator cpu.
# The nodes share the current folder. --ckpt_path auto resumes a run that was interrupted.
set -euo pipefail
torchrun --nnodes "${NODES:-1}" --nproc_per_node "${DEVICES:-8}" --node_rank "${NODE:-0}" \
  --master_addr "${HOST:-localhost}" --master_port "${PORT:-29500}" -m graft \
  fit --config domains/molecule.yaml --config trainer/ddp.yaml \
  --trainer.num_nodes "${NODES:-1}" --trainer.devices "${DEVICES:-8}" --run_dir runs/mine --ckpt_path auto "$@"
