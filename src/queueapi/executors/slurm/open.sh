# Makes the folder for jobs of a user's own account, and sees that it can be trusted: what lies in it
# is run as this account. Runs on the login node as `sh -c`, so it is not a file there.
# shellcheck shell=sh
#
#   open.sh ROOT ACCOUNT
#
# Exit status: 5 = it is another account, root, or a folder that others may change.

umask 077
root=$1
name=$(id -un) || exit 3
refuse() {
    printf '%s\n' "$1" >&2
    exit 5
}
[ "$name" = "$2" ] || refuse "the key leads to the account $name, not to $2"
[ "$(id -u)" -ne 0 ] || refuse "jobs do not run as root"
mkdir -p -- "$root" || exit 3
if [ -L "$root" ] || [ ! -O "$root" ] || [ -n "$(find "$root" -prune -perm /022)" ]; then
    refuse "$root must be a folder of $name, and nobody else may write to it"
fi
