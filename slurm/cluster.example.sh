# This cluster: copy to slurm/cluster.sh, which git ignores, and change what differs.
# Read when a sweep is submitted and again at the start of each job.

# Whom to charge and where to run: options of every sbatch call.
export SBATCH_ACCOUNT=my_account
export SBATCH_PARTITION=gpu

# What each step needs, as options of sbatch. Steps: zoo, pretrain, embed, evaluate.
export PEACE_SBATCH_ZOO="--cpus-per-task=16 --mem=64G --time=04:00:00"
export PEACE_SBATCH_PRETRAIN="--gpus-per-node=1 --cpus-per-task=8 --mem=64G --time=08:00:00"
export PEACE_SBATCH_EMBED="--gpus-per-node=1 --cpus-per-task=4 --mem=32G --time=02:00:00"
export PEACE_SBATCH_EVALUATE="--cpus-per-task=4 --mem=32G --time=01:00:00"

# Two nodes of four GPUs each for one training; a process a GPU:
# export PEACE_SBATCH_PRETRAIN="--nodes=2 --ntasks-per-node=4 --gpus-per-node=4 --cpus-per-task=8 --mem=0 --time=08:00:00"

# Software and data. SLURM_JOB_ID is set inside jobs only.
if [ -n "${SLURM_JOB_ID:-}" ]; then
  # module load python/3.11 cuda/12.8
  export PEACE_DATA="$HOME/data"
  export TMPDIR="${SCRATCH:-/tmp}"
fi
