#!/bin/sh
# Checks launch.pml, exhaustively: check.sh [-DNAME...], with names from its head, or -DFAULTS=3.
#
# Exit status: 0 = it holds; 1 = it does not, and the steps that lead there are printed;
# 2 = it could not be checked. Needs spin and a C compiler.

model=$(cd -- "$(dirname -- "$0")" && pwd)/launch.pml
folder=$(mktemp -d) || exit 2
trap 'rm -rf -- "$folder"' EXIT
cd -- "$folder" || exit 2
cp -- "$model" . || exit 2

spin "$@" -a launch.pml >spin.out 2>&1 || {
    cat spin.out
    exit 2
}
# Two searches through all states: for states that must not be, and for runs without an end.
for search in SAFETY NP; do
    ${CC:-cc} -O1 -w -D$search -DCOLLAPSE -DVECTORSZ=1024 -o pan pan.c || exit 2
    case $search in
    SAFETY) ./pan -E -m1000000 >pan.out 2>&1 ;; # -E: Rest says what an end is
    NP) ./pan -E -l -m1000000 >pan.out 2>&1 ;;
    esac
    if grep -q '^pan:1:' pan.out; then
        spin "$@" -t -p launch.pml | grep -F 'launch.pml:'
        grep '^pan:1:' pan.out
        exit 1
    fi
    if ! grep -q 'errors: 0' pan.out || grep -q -e 'search depth too small' -e 'not completed' pan.out
    then
        cat pan.out
        exit 2
    fi
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out)
    case $search in
    SAFETY) echo "No assertion fails, in any of $states states." ;;
    NP) echo "Every run comes to an end." ;;
    esac
done
