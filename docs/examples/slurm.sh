#!/bin/bash
# A run on two nodes of eight devices: sbatch docs/examples/slurm.sh. Further arguments are settings.
# Slurm restarts a job that was preempted, and --ckpt_path auto resumes the run.
#SBATCH --job-name graft
#SBATCH --nodes 2
#SBATCH --ntasks-per-node 8
#SBATCH --gpus-per-node 8
#SBATCH --cpus-per-task 4
#SBATCH --time 24:00:00
#SBATCH --requeue
set -euo pipefail
srun graft fit --config domains/molecule.yaml --config trainer/slurm.yaml --run_dir runs/mine --ckpt_path auto "$@"
