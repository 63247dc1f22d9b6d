# What each job does, sourced by the templates: this cluster's environment, then one task of the manifest.
set -euo pipefail
# Scripts of modules and environments read variables that are not set.
set +u
if [ -f "$PEACE_SLURM/cluster.sh" ]; then source "$PEACE_SLURM/cluster.sh"; fi
set -u
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
# exec: the signal that announces the time limit goes to this process alone.
exec "$PEACE_PYTHON" -m peace.sweeps.task "$1" "$((SLURM_ARRAY_TASK_ID + $2))"
