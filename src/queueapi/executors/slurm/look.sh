# Tells what lies in the folders of jobs. Runs on the login node as `sh -c`.
# shellcheck shell=sh
#
#   look.sh ROOT MARK <keys, one on each line
#
# For each key: MARK, the key, and then a line for each thing that is there: `folder`,
# `submitting AT`, `submitted ID`, `claim ID`, `started AT`, `exit CODE AT`, `wanted REASON`,
# `limit SECONDS`, `fetched WORDS`. AT is in seconds since the epoch, by the clock of the file system.

root=$1
mark=$2
cd -- "$root" 2>/dev/null || {
    [ ! -e "$root" ] || exit 3
    printf '\n%s\n' "$mark" # nothing was ever launched
    exit 0
}
first() { # WORD FILE: its first line
    IFS= read -r line 2>/dev/null <"$2" && printf '%s %s\n' "$1" "$line"
}
while IFS= read -r key; do
    printf '\n%s %s\n' "$mark" "$key"
    [ -d "$key" ] || continue
    echo folder
    first submitted "$key/submitted"
    first claim "$key/claim"
    first exit "$key/exit"
    first wanted "$key/wanted"
    first limit "$key/limit"
    first fetched "$key/fetched"
    stat -c '%n %.Y' -- "$key/submitting" "$key/started" "$key/exit" 2>/dev/null
done
printf '\n%s\n' "$mark"
