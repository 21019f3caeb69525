# Keeps the folders that jobs bring on a cluster, each under the digest of what is in it. Runs on
# the login node as `sh -c`, so it is not a file there.
# shellcheck shell=sh
#
#   placing.sh FOLDER find DIGEST         marks it as used now; exit status 1 = it is not there
#   placing.sh FOLDER place DIGEST NEW MODE   unpacks NEW.tar.gz and makes it DIGEST; MODE is
#                                         chmod's, for all that is in it
#   placing.sh FOLDER unused MINUTES      tells which were not used for so long, one on each line
#   placing.sh FOLDER drop DIGEST MINUTES deletes it, unless it was used since
#
# A folder appears whole, by rename, and is never changed then. When it was used last is its time.

umask 077
mkdir -p -- "$1" && cd -- "$1" || exit 3

delete() {
    chmod -R u+w -- "$@" 2>/dev/null
    rm -rf -- "$@"
}
is_unused() { # DIGEST MINUTES
    [ -n "$(find "$1" -prune -mmin "+$2" 2>/dev/null)" ]
}

case $2 in
find)
    [ -d "$3" ] && touch -c -- "$3" || exit 1
    ;;
place)
    trap 'delete "$4" "$4.tar.gz"' EXIT
    mkdir -- "$4" && tar -xzf "$4.tar.gz" --no-same-owner -C "$4" || exit 3
    chmod -R "$5" -- "$4" || exit 3
    case $5 in *a+*) chmod 711 . || exit 3 ;; esac # jobs of other accounts pass through
    # Not only its name shall be there after a power cut.
    sync -f "$4" 2>/dev/null || sync
    touch -c -- "$4"
    # Another server may have been first: a folder with something in it is not replaced.
    mv -T -- "$4" "$3" 2>/dev/null || [ -d "$3" ] || exit 3
    ;;
unused)
    find . -mindepth 1 -maxdepth 1 ! -name '.*' -type d -mmin "+$3" | sed 's,^\./,,'
    # What was being made or deleted when something broke off.
    find . -mindepth 1 -maxdepth 1 -name '.*' -mmin +1440 | while IFS= read -r left; do
        delete "$left"
    done
    ;;
drop)
    is_unused "$3" "$4" || exit 0
    old=.old-$3-$$
    mv -T -- "$3" "$old" || exit 3
    # A launch may have found it in between: then it is put back, where that did not make another.
    is_unused "$old" "$4" || mv -T -- "$old" "$3" 2>/dev/null || :
    delete "$old"
    ;;
esac
