#!/bin/sh
# Runs one attempt of a job and leaves proof of it. The same file serves the local
# executor, SSH and Slurm.
#
#   run_wrapper.sh [--wait] JOBDIR [PREFIX ARGV... | -- COMMAND ARGV...]
#
# JOBDIR, an absolute path, holds what its owner prepared:
#   script        the user's script: run as itself if it begins with #!, else by /bin/sh
#   environment   NAME=value lines in printf %b's escapes, added to the environment
#   work          the folder the script runs in
#   fetch         if the job asks for data: what brings it, before the script; see fetch.sh
# and receives what happened:
#   started       made once, by O_EXCL: the start lock; its mtime is the start time, and it
#                 says who took it
#   stdout, stderr
#   exit          "exit_code=N" and a newline; its mtime is the end time
#
# Both are made by the shell itself, since each command that it starts costs as
# much as the rest of this script. One write of a dozen bytes is all or nothing; a
# reader takes an exit record without its newline for none.
#
# PREFIX ARGV (a container, `setsid -w`) is put before the command that enters the
# job; COMMAND enters it by itself (a sandbox that sets folder and environment), and
# saves a shell. Both are our own argv, never the user's words. The process group is
# the caller's choice for the same reason. A lock on file descriptor 9, if there is
# one, is kept by this wrapper and closed for the job.
#
# --wait: begin after a line on standard input, when the caller has put this process
# where it belongs; without the line, run nothing (122).
#
# Exit status: the script's, or 120 = the disk is full, so nothing was run and it may be tried
# again; 121 = started before, so nothing was run; 122 = could not start, nothing was run;
# 123 = entered badly; 119 = the data could not be fetched, so the script was not run.

# The second half: runs inside PREFIX, so that nothing the user set (LD_PRELOAD,
# PATH) can touch the sandbox or the exit record. Nothing is evaluated here.
# The variables have names that no user's variable may have.
enter() {
    cd -- "$QUEUEAPI_JOBDIR/work" || exit 123
    unset OLDPWD # our trace, not the user's variable
    while IFS= read -r QUEUEAPI_LINE; do
        QUEUEAPI_VALUE=${QUEUEAPI_LINE#*=}
        case $QUEUEAPI_VALUE in
        *\\*)
            QUEUEAPI_VALUE=$(printf '%b.' "$QUEUEAPI_VALUE") # the dot saves trailing newlines
            QUEUEAPI_VALUE=${QUEUEAPI_VALUE%.}
            ;;
        esac
        # IFS and the like would change this shell; our caller refuses such names.
        export "${QUEUEAPI_LINE%%=*}=$QUEUEAPI_VALUE"
    done <"$QUEUEAPI_JOBDIR/environment" || exit 123
    QUEUEAPI_LINE=
    IFS= read -r QUEUEAPI_LINE <"$QUEUEAPI_JOBDIR/script"
    set -- "$QUEUEAPI_JOBDIR/script"
    case $QUEUEAPI_LINE in
    '#!'*) ;;
    *) set -- /bin/sh "$1" ;;
    esac
    unset QUEUEAPI_LINE QUEUEAPI_VALUE QUEUEAPI_JOBDIR
    exec "$@"
}

umask 077
if [ "$1" = --enter ]; then
    QUEUEAPI_JOBDIR=$2
    enter
    exit 123
fi

if [ "$1" = --wait ]; then
    IFS= read -r QUEUEAPI_LINE || exit 122
    shift
fi
QUEUEAPI_JOBDIR=$1
shift
cd -- "$QUEUEAPI_JOBDIR" || exit 122
# Before the start lock: what finds no room on the disk has not begun, and may be tried again.
{ true >>stdout && true >>stderr; } 2>/dev/null || exit 120
set -C # `>` creates, or fails: on every file system as atomic as mkdir
true 2>/dev/null >started || {
    [ -e started ] && exit 121
    exit 120
}
set +C
# Who took it, for people who ask. The lock is as good without, where the disk is full.
{
    IFS= read -r QUEUEAPI_BOOT </proc/sys/kernel/random/boot_id
    IFS= read -r QUEUEAPI_HOST </proc/sys/kernel/hostname
    printf 'pid=%d\nboot_id=%s\nhost=%s\n' "$$" "$QUEUEAPI_BOOT" "$QUEUEAPI_HOST" >>started
} 2>/dev/null
unset QUEUEAPI_BOOT QUEUEAPI_HOST

# Caught, not ignored: the job gets the default actions back, and this shell
# outlives the signal to write the record.
trap : TERM INT HUP
code=0
if [ -e fetch ]; then
    /bin/sh ./fetch "$QUEUEAPI_JOBDIR" </dev/null >>stderr 2>&1 9>&- || code=$?
fi
if [ "$code" -ne 0 ]; then
    (exit "$code")
elif [ $# -eq 0 ]; then
    (enter) </dev/null >>stdout 2>>stderr 9>&-
elif [ "$1" = -- ]; then
    shift
    "$@" </dev/null >>stdout 2>>stderr 9>&-
else
    "$@" /bin/sh "$0" --enter "$QUEUEAPI_JOBDIR" </dev/null >>stdout 2>>stderr 9>&-
fi
code=$?
printf 'exit_code=%d\n' "$code" >'exit'
exit "$code"
