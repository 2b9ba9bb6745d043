#!/bin/bash
# One notebook's plan on several GPUs of a Slurm cluster: a job array measures, then one job executes the notebook.
# Set the five lines below (shards: as many as the array has jobs), then, from the repository's root:
#
#   array=$(sbatch --parsable --array=1-8 docs/slurm.sh)
#   sbatch --dependency=afterany:"$array" docs/slurm.sh
#
# Whatever an array job did not measure, the second job measures itself before it draws.
#SBATCH --job-name=moebook
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=02:00:00
set -eo pipefail

shards=8
section=01_hyperparameter_scaling
profile=h100
environment=moebook             # of `conda env create -f environment.yml`
eval "$(conda shell.bash hook)" # where the nodes do not know conda: source /path/to/conda.sh

conda activate "$environment"
set -u                          # only now: scripts that conda runs may use variables that are not set
cd "${SLURM_SUBMIT_DIR:-.}"
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  moebook measure "params/$profile/$section.yaml" --shard "$SLURM_ARRAY_TASK_ID/$shards"
else
  moebook run "$section" --profile "$profile"
fi
