#!/bin/sh
# The batch script of every job of queueapi. It is the same for all, so that nothing of a user's
# is ever read by sbatch: his script is a file of its own, and its #SBATCH lines are comments.
#
#   batch_script.sh WRAPPER JOBDIR [PREFIX ARGV...]
#
# WRAPPER, JOBDIR and what follows are run_wrapper.sh and its arguments.
#
# JOBDIR receives
#   claim    "<Slurm's job id>" and a newline: which submission runs, should there be two
#
# Exit status: the wrapper's, or 121 = another submission has this run, so nothing was run; 120 = the
# disk is full, so nothing was run either, and it may be tried again.

umask 077
wrapper=$1
shift
# What sbatch itself needed. And steps that the script starts with srun shall get its variables.
unset LC_ALL LD_LIBRARY_PATH SLURM_EXPORT_ENV
PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}
export PATH

set -C # `>` creates, or fails
if ! printf '%s\n' "$SLURM_JOB_ID" 2>/dev/null >"$1/claim"; then
    [ -e "$1/claim" ] || exit 122
    IFS= read -r owner <"$1/claim" || exit 120 # it was made, and had no room for a word
    [ "$owner" = "$SLURM_JOB_ID" ] || exit 121
fi
set +C
[ $# -eq 1 ] || exec /bin/sh "$wrapper" "$@" # which PREFIX shall start once more
# shellcheck source=/dev/null # the wrapper, without a shell of its own
. "$wrapper"
