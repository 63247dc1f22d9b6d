#!/usr/bin/env bash
# submit.sh STEP SBATCH-ARGUMENTS…: sbatch with this cluster's settings for a step, where slurm/cluster.sh has any.
set -euo pipefail
PEACE_SLURM="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PEACE_SLURM PEACE_PYTHON="${PEACE_PYTHON:-python}"
# Scripts of modules and environments read variables that are not set.
set +u
if [ -f "$PEACE_SLURM/cluster.sh" ]; then source "$PEACE_SLURM/cluster.sh"; fi
set -u
settings="PEACE_SBATCH_${1^^}"
shift
# Unquoted on purpose: a setting is several words.
exec sbatch --parsable ${!settings:-} "$@"
