# Tells what lies in the folders of jobs. Runs on the login node as `sh -c`.
# shellcheck shell=sh
#
#   look.sh ROOT MARK <keys, one on each line
#
# For each key: MARK, the key, and then a line for each thing that is there: `folder`, `submitted ID`,
# `claim ID`, `exit CODE`, `wanted REASON`, `limit SECONDS`, `fetched WORDS`. In the end MARK, a dot,
# and a line `KEY/NAME AT` for each `submitting`, `started` and `exit`, since one command tells it of
# all. AT is in seconds since the epoch, by the clock of the file system.

root=$1
mark=$2
cd -- "$root" 2>/dev/null || {
    [ ! -e "$root" ] || exit 3
    printf '\n%s\n' "$mark" # nothing was ever launched
    exit 0
}
exec 3>&1
first() { # WORD FILE: its first line
    IFS= read -r line 2>/dev/null <"$2" && printf '%s %s\n' "$1" "$line" >&3
}
paths=$(
    while IFS= read -r key; do
        printf '\n%s %s\n' "$mark" "$key" >&3
        [ -d "$key" ] || continue
        echo folder >&3
        first submitted "$key/submitted"
        first claim "$key/claim"
        first exit "$key/exit"
        first wanted "$key/wanted"
        first limit "$key/limit"
        first fetched "$key/fetched"
        printf '%s\n' "$key/submitting" "$key/started" "$key/exit"
    done
)
printf '\n%s .\n' "$mark"
[ -z "$paths" ] || printf '%s\n' "$paths" | xargs stat -c '%n %.Y' -- 2>/dev/null
printf '\n%s\n' "$mark"
