# Shows files of a job's folder. Runs on the login node as `sh -c`, so it is not a file there.
# shellcheck shell=sh
#
#   files.sh (file | folder | tar | read OFFSET LENGTH) FOLDER MARK
#
# Standard input is a path in FOLDER, of any bytes. After MARK it says
#   file     NAME/TYPE MODE SIZE TIME and a NUL, in the words of find's %f/%y %m %s %T@
#   folder   the same of each thing in the folder, by name
#   tar      the folder and all below it, in GNU's form; what can't be read is left out
#   read     at most LENGTH bytes of the file
#
# Nothing outside of FOLDER is shown, though a job may put links into it at any moment: where we
# are is looked at after we have gone there, and a file is opened only if it is none.
#
# Exit status: 4 = there is no such thing, or nothing that may be shown.

export LC_ALL=C
what=$1
if [ "$what" = read ]; then
    offset=$2 length=$3
    shift 2
fi
folder=$2 mark=$3
path=$(cat && echo .) # the dot saves newlines at its end
path=${path%.}
cd -P -- "$folder" 2>/dev/null || exit 4
base=$(pwd -P && echo .)

enter() { # PATH
    cd -P -- "./$1" 2>/dev/null || exit 4
    here=$(pwd -P && echo .)
    [ "${here%??}" = "${base%??}/$1" ] || exit 4
}

tell='%f/%y %m %s %T@\0'
case $what in
folder)
    enter "$path"
    printf '%s' "$mark"
    find . -mindepth 1 -maxdepth 1 -printf "$tell" | sort -z
    ;;
tar)
    enter "$path"
    tar --version 2>/dev/null | grep -q GNU || exit 3
    printf '%s' "$mark"
    exec tar --create --file=- --format=gnu --hard-dereference . </dev/null 2>/dev/null
    ;;
file | read)
    name=${path##*/}
    case $path in
    */*) enter "${path%/*}" ;;
    esac
    [ -e "./$name" ] || [ -L "./$name" ] || exit 4
    if [ "$what" = file ]; then
        printf '%s' "$mark"
        exec find "./$name" -prune -printf "$tell"
    fi
    [ -f "./$name" ] && [ ! -L "./$name" ] || exit 4
    printf '%s' "$mark"
    exec dd if="./$name" bs=1M iflag=nofollow,nonblock,fullblock,skip_bytes,count_bytes \
        skip="$offset" count="$length" status=none
    ;;
esac
