# This cluster: copy to slurm/cluster.sh, which git ignores, and take away the # of what it needs.
# Read when a sweep is submitted and again at the start of each job. As it stands, each job takes one processor.

# Whom to charge and where to run: options of every sbatch call.
# export SBATCH_ACCOUNT=my_account
# export SBATCH_PARTITION=gpu

# What each step needs, as options of sbatch. Steps: zoo, pretrain, embed, evaluate.
# export PEACE_SBATCH_ZOO="--cpus-per-task=16 --mem=64G --time=04:00:00"
# export PEACE_SBATCH_PRETRAIN="--gpus-per-node=1 --cpus-per-task=8 --mem=64G --time=08:00:00"
# export PEACE_SBATCH_EMBED="--cpus-per-task=4 --mem=32G --time=02:00:00"
# export PEACE_SBATCH_EVALUATE="--cpus-per-task=4 --mem=32G --time=01:00:00"

# One training on two nodes of four GPUs each, a process a GPU. Ask for GPUs by the node, not by the task.
# export PEACE_SBATCH_PRETRAIN="--nodes=2 --ntasks-per-node=4 --gpus-per-node=4 --cpus-per-task=8 --mem=0"

# Software, data and scratch. SLURM_JOB_ID is set inside jobs only.
if [ -n "${SLURM_JOB_ID:-}" ]; then
  # module load python/3.11 cuda/12.8
  # export PEACE_DATA="$HOME/data"
  # export TMPDIR="${SCRATCH:-/tmp}"
  # Torch would say in each process that all parameters were used.
  export TORCH_CPP_LOG_LEVEL=ERROR
fi
