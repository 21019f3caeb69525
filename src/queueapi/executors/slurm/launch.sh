# Launches prepared jobs, each once. Runs on the login node as `sh -c`, so it is not a file there, and
# in a clean environment, which sbatch gives to the jobs.
# shellcheck shell=sh
#
#   launch.sh ROOT MARK [AGAIN...]
#
# Standard input is a tar of `.programs/` and of a folder for each job, with
#   keys           their launch keys, in the order of their turn
#   KEY.sbatch     the argv that submits it, a word on each line
# AGAIN are keys whose lock an earlier launch left, though Slurm knows no job of that name.
#
# For each key it says, after MARK and the key: `ok ID`, `lost` (an earlier launch did not tell
# how it ended; `lost long` = more than a minute ago) or `refused` and what sbatch said. It ends at
# the first refusal: what is wrong may be wrong for all. A key that nothing was said of was not
# submitted.
#
# A job's folder appears whole, by rename. `submitting` in it is the lock of the one who submits,
# made by the shell itself; `submitted` has the job id that Slurm gave. Each command that this
# starts costs as much as a part of sbatch itself, so it starts few.

umask 077
trap '' PIPE # nobody may listen any more; what was begun is ended and recorded
root=$1
mark=$2
shift 2
again=" $* "
newline='
'
mkdir -p -- "$root" && cd -- "$root" || exit 3
new=.new-$$-$(date +%s)
mkdir -- "$new" || exit 3
trap 'rm -rf -- "$new"' EXIT
tar -xmf - -C "$new" || exit 4
for left in .new-*; do # by a launch that was killed, long ago
    [ "$left" = "$new" ] || find "$left" -prune -mmin +1440 -exec rm -rf {} + 2>/dev/null
done
mkdir -p .programs || exit 3
for program in "$new"/.programs/*; do
    [ -e ".programs/${program##*/}" ] || mv -- "$program" .programs/ || exit 3
done

set --
while IFS= read -r key; do
    [ -d "$key" ] || set -- "$@" "$new/$key"
done <"$new/keys"
[ $# -eq 0 ] || mv -t . -- "$@" 2>/dev/null # one that somebody else has just moved stays

while IFS= read -r key; do
    [ -d "$key" ] || exit 3
    if [ -s "$key/submitted" ]; then
        printf '\n%s %s ok %s\n' "$mark" "$key" "$(cat "$key/submitted")"
        continue
    fi
    set -C # `>` creates, or fails
    if ! true 2>/dev/null >"$key/submitting"; then
        [ -e "$key/submitting" ] || exit 3
        case $again in
        *" $key "*) ;;
        *)
            long=$(find "$key/submitting" -prune -mmin +1)
            printf '\n%s %s lost%s\n' "$mark" "$key" "${long:+ long}"
            set +C
            continue
            ;;
        esac
    fi
    set +C
    set --
    while IFS= read -r word; do
        set -- "$@" "$word"
    done <"$new/$key.sbatch"
    if answer=$("$@" 2>"$new/complaint" </dev/null); then
        id=${answer##*"$newline"} # the last line
        printf '%s\n' "${id%%;*}" >"$key/submitted"
        printf '\n%s %s ok %s\n' "$mark" "$key" "${id%%;*}"
    else
        printf '\n%s %s refused\n' "$mark" "$key"
        cat "$new/complaint"
        break
    fi
done <"$new/keys"
printf '\n%s\n' "$mark"
