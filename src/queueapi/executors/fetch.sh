#!/bin/sh
# Fetches the data of a job to where it runs, before its script begins. run_wrapper.sh starts it.
#
#   fetch.sh JOBDIR
#
# JOBDIR holds `target`, a line each for: the scheme; the URL, or the path; host; port; the commit
# of git, the account of sftp or the name of a file; a file of certificates, or nothing. All
# further lines are patterns HOST:PORT of hosts whose addresses do not matter, or, for a path, the
# folders that jobs may read. JOBDIR receives
#   data       what was fetched: a folder, or a link to one
#   fetched    "fetching BYTES", "fetched BYTES" or "failed WORDS", and a newline
#
# What is fetched over https comes from public addresses alone, unless the host is one of the
# patterns. The address that was looked at is the one that is used, and no redirect is followed
# before its host was looked at too.
#
# Exit status: 0, or 119 = the data could not be fetched.

umask 077
set -f # lists are split at blanks, and nothing else is made of them
export LC_ALL=C
cd -- "$1" || exit 119
{
    read -r scheme
    read -r place
    read -r host
    read -r port
    read -r detail
    read -r certificates
    patterns=$(cat)
} <target
log=fetch.log
meter=

tell() {
    printf '%s\n' "$1" >.fetched && mv -f .fetched fetched
}

bytes() {
    du -sb data | cut -f 1
}

fail() { # WORDS
    [ -z "$meter" ] || { kill "$meter" && wait "$meter"; } 2>/dev/null
    rm -rf data
    words=$(printf '%s' "$1" | tr '\n' ' ' | tr -cd '[:print:]' | cut -c 1-400)
    tell "failed $words"
    printf 'queueapi: the data of this job could not be fetched: %s\n' "$words" >&2
    exit 119
}

fail_as_told() { # WHAT: by the last line of the program that did it, but for advice and farewells
    told=$(grep '^curl: (' "$log" || grep -v -e '^[[:space:]]*$' -e '^Connection closed' "$log")
    told=$(printf '%s\n' "$told" | tail -n 1)
    fail "$1: ${told:-it failed and did not say why}"
}

is_listed() { # HOST:PORT
    for pattern in $patterns; do
        # shellcheck disable=SC2254 # it is a pattern
        case $1 in
        $pattern) return 0 ;;
        esac
    done
    return 1
}

is_public() { # ADDRESS
    case $1 in
    0.* | 10.* | 127.* | 169.254.* | 192.168.* | 172.1[6-9].* | 172.2[0-9].* | 172.3[01].*) return 1 ;;
    100.6[4-9].* | 100.[7-9][0-9].* | 100.1[01][0-9].* | 100.12[0-7].* | 168.63.129.16) return 1 ;;
    192.0.0.* | 192.0.2.* | 192.88.99.* | 198.1[89].* | 198.51.100.* | 203.0.113.*) return 1 ;;
    22[4-9].* | 2[3-5][0-9].*) return 1 ;;
    2001:db8:* | 2001:0:* | 2001::* | 2002:*) return 1 ;;
    [23]???:*) return 0 ;;
    *:*) return 1 ;;
    [0-9]*.[0-9]*.[0-9]*.[0-9]*) return 0 ;;
    *) return 1 ;;
    esac
}

# The addresses of a host, with commas, as curl takes them.
look_up() { # HOST PORT
    addresses=
    for address in $(getent ahosts "$1" | cut -d ' ' -f 1 | sort -u); do
        is_listed "$1:$2" || is_public "$address" ||
            fail "$1 has the address $address, which is not public, and is no host that jobs may fetch from"
        case $address in
        *:*) address="[$address]" ;;
        esac
        addresses=$addresses${addresses:+,}$address
    done
    [ -n "$addresses" ] || fail "no address is known of $1"
}

# Host and port of a URL that a server sent us to.
take_apart() { # URL
    case $1 in
    *[!A-Za-z0-9._~:/?\#@!$\&\'\(\)*+,\;=%-]*) fail "it leads to an odd place" ;;
    https://*) ;;
    *) fail "it leads to a place that is not https" ;;
    esac
    host=${1#https://}
    host=${host%%[/?#]*}
    port=443
    case $host in
    *:*)
        port=${host##*:}
        host=${host%:*}
        ;;
    esac
    case $host:$port in
    *[!A-Za-z0-9.:-]* | *:*:* | *: | *:*[!0-9]*) fail "it leads to an odd place" ;;
    esac
    host=$(printf '%s' "$host" | tr '[:upper:]' '[:lower:]')
}

fetch_https() {
    url=$place
    for hop in 1 2 3 4 5 6; do
        look_up "$host" "$port"
        : "$hop"
        answer=$(curl -q --silent --show-error --fail --globoff --noproxy '*' --proto =https \
            --connect-timeout 30 --speed-limit 1 --speed-time 120 \
            ${certificates:+--cacert "$certificates"} --resolve "$host:$port:$addresses" \
            --output "data/$detail" --write-out '%{http_code} %{redirect_url}' \
            --url "$url" 2>"$log") || fail_as_told "$url"
        case $answer in
        2??' '*) return ;;
        30[12378]' '?*) url=${answer#* } ;;
        *) fail "$url: the server answered ${answer%% *}" ;;
        esac
        take_apart "$url"
    done
    fail "$place: it leads on from one place to the next, more than 5 times"
}

git_() {
    GIT_TERMINAL_PROMPT=0 GIT_ASKPASS=/bin/false GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null \
        git -c protocol.allow=never -c protocol.https.allow=always -c http.followRedirects=false \
        -c "http.curloptResolve=$host:$port:$addresses" -c http.proxy= -c credential.helper= \
        -c core.hooksPath=/dev/null -c core.fsmonitor=false -c gc.auto=0 -c maintenance.auto=false \
        -c advice.detachedHead=false ${certificates:+-c "http.sslCAInfo=$certificates"} "$@"
}

fetch_git() {
    look_up "$host" "$port"
    git_ init --quiet data >"$log" 2>&1 || fail_as_told git
    # Most servers give one commit. From the others all is fetched, to look for it there.
    git_ -C data fetch --quiet --depth=1 --no-tags --no-recurse-submodules \
        "$place" "$detail" >"$log" 2>&1 ||
        git_ -C data fetch --quiet --no-recurse-submodules "$place" \
            '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/tags/*' >"$log" 2>&1 ||
        fail_as_told "$place"
    git_ -C data checkout --quiet --detach "$detail" >"$log" 2>&1 ||
        fail_as_told "$place has no commit $detail"
    [ "$(git_ -C data rev-parse HEAD)" = "$detail" ] || fail "$place has no commit $detail"
}

fetch_sftp() {
    printf 'get -r "%s" data/\n' "$place" |
        sftp -b - -P "$port" -o LogLevel=ERROR -o BatchMode=yes -o StrictHostKeyChecking=yes \
            -o ClearAllForwardings=yes -o PermitLocalCommand=no -o ConnectTimeout=30 \
            -o ServerAliveInterval=15 -- "${detail:+$detail@}$host" >/dev/null 2>"$log" ||
        fail_as_told "sftp://$host:$port$place"
}

link_path() {
    real=$(realpath -e -- "$place" 2>"$log") || fail_as_told "$place"
    [ -d "$real" ] || fail "$place is not a folder"
    for pattern in $patterns; do
        allowed=$(realpath -e -- "$pattern" 2>/dev/null) || continue
        case $real/ in
        "$allowed"/*)
            { rmdir data && ln -s -- "$real" data; } || fail "$place: it could not be linked"
            return
            ;;
        esac
    done
    fail "$place leads to $real, which is in none of the paths that jobs may read"
}

tell fetching
[ -d data ] || mkdir data || fail "no folder could be made for it"
if [ "$scheme" = path ]; then
    link_path
    tell fetched
    exit 0
fi
(while sleep 5; do tell "fetching $(bytes)"; done) >/dev/null 2>&1 </dev/null &
meter=$!
case $scheme in
https) fetch_https ;;
git) fetch_git ;;
sftp) fetch_sftp ;;
*) fail "this program does not know $scheme" ;;
esac
{ kill "$meter" && wait "$meter"; } 2>/dev/null
tell "fetched $(bytes)"
rm -f "$log"
exit 0
