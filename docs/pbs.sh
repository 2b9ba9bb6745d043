#!/bin/bash
# One notebook's plan on several GPUs of a PBS cluster (PBS Pro, OpenPBS): a job array measures, then one job executes the notebook.
# Set the five lines below (shards: as many as the array has jobs), then, from the repository's root:
#
#   array=$(qsub -J 1-8 docs/pbs.sh)
#   qsub -W depend=afterany:"$array" docs/pbs.sh
#
# Whatever an array job did not measure, the second job measures itself before it draws.
#PBS -N moebook
#PBS -l select=1:ncpus=8:ngpus=1
#PBS -l walltime=02:00:00
#PBS -j oe
set -eo pipefail

shards=8
section=01_hyperparameter_scaling
profile=h100
environment=moebook             # of `conda env create -f environment.yml`
eval "$(conda shell.bash hook)" # where the nodes do not know conda: source /path/to/conda.sh

conda activate "$environment"
set -u                          # only now: scripts that conda runs may use variables that are not set
cd "${PBS_O_WORKDIR:-.}"
if [ -n "${PBS_ARRAY_INDEX:-}" ]; then
  moebook measure "params/$profile/$section.yaml" --shard "$PBS_ARRAY_INDEX/$shards"
else
  moebook run "$section" --profile "$profile"
fi
