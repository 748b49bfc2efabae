#!/bin/bash
# All experiments on a SLURM cluster, one task of the array each, in four processes:
#   boundary=$(sbatch --parsable --array=0 docs/slurm.sh)
#   sbatch --dependency=afterok:$boundary --array=1-3 docs/slurm.sh
# A task that is killed or resubmitted goes on where it was.
#SBATCH --job-name=geomadv
#SBATCH --nodes=1
#SBATCH --cpus-per-task=16
#SBATCH --gres=gpu:4
#SBATCH --time=12:00:00
set -euo pipefail

network=${NETWORK:-resnet20-cifar10}
results=${RESULTS:-results}

# Each line needs those above it: first what all start from, then the long ones beside each other.
groups=(
    "boundary normal_svd curvature"
    "score_curves direction_sweep normal_section subspace_accuracy first_order_twin confined_deepfool resampling"
    "universal norm_fractions label_graph transfer norm_comparison categories finetuning"
    "train random_subspace_fooling softmax_directions tilting_plane tilting_toy normal_tilt decision_plane"
)

export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / 4))
# shellcheck disable=SC2086  # the words of a group are experiments
exec torchrun --standalone --nproc-per-node=4 -m geomadv run ${groups[$SLURM_ARRAY_TASK_ID]} \
    --network "$network" --results "$results"
