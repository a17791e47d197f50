#!/usr/bin/env bash
# Installs what pgquorum's tests need and this machine lacks: PostgreSQL, HAProxy, iproute2, nftables, e2fsprogs, a C
# compiler for the clock that chaos sets (Debian 12, root).
# With names of packages among these as arguments, it sees to those alone: scripts/deps.sh postgresql haproxy
#
# It never touches a PostgreSQL cluster that exists. Debian's default cluster is neither created (it would take port 5432
# and run beside pgquorum's) nor are the packages' services started; both policies are in force before the packages arrive.
set -euo pipefail

say() { printf 'deps: %s\n' "$*"; }
die() { printf 'deps: %s\n' "$*" >&2; exit 1; }

[ $# -gt 0 ] || set -- postgresql haproxy iproute2 nftables e2fsprogs gcc libc6-dev
wanted=("$@")

has() {
    # Daemons stand in sbin, which is not always in PATH.
    local PATH="$PATH:/usr/sbin:/sbin"
    case "$1" in
    postgresql) compgen -G '/usr/lib/postgresql/*/bin/postgres' || command -v postgres ;;
    haproxy) command -v haproxy ;;
    iproute2) command -v ip ;;
    nftables) command -v nft ;;
    e2fsprogs) command -v mkfs.ext4 ;;
    gcc) command -v cc ;;
    libc6-dev) echo '#include <time.h>' | cc -E -o /dev/null - 2>/dev/null ;;
    *) die "$1: want postgresql, haproxy, iproute2, nftables, e2fsprogs, gcc or libc6-dev" ;;
    esac >/dev/null
}

missing() {
    local package
    for package in "${wanted[@]}"; do has "$package" || echo "$package"; done
}

for package in "${wanted[@]}"; do has "$package" || true; done # an unknown name ends it here

mapfile -t packages < <(missing)
if [ ${#packages[@]} -eq 0 ]; then
    say "nothing is missing"
    exit 0
fi
say "missing: ${packages[*]}"
[ "$(id -u)" -eq 0 ] || die "root is needed to install them"
command -v apt-get >/dev/null || die "apt-get not found: install them by hand"

# postgresql-common asks this setting whether to create the cluster "main" when a server package is installed.
if [[ " ${packages[*]} " == *" postgresql "* ]]; then
    conf=/etc/postgresql-common/createcluster.d/pgquorum.conf
    if [ ! -e "$conf" ]; then
        say "writing $conf: no default cluster"
        mkdir -p "$(dirname "$conf")"
        printf '# pgquorum creates and runs its own clusters.\ncreate_main_cluster = false\n' >"$conf"
    fi
fi

# invoke-rc.d asks policy-rc.d before it starts a service: 101 means "not allowed". Ours goes away again, and one that was
# there before comes back.
policy=/usr/sbin/policy-rc.d
mark='# written by pgquorum scripts/deps.sh, for the time of one installation'
saved="$policy.before-pgquorum"
restore() {
    rm -f "$policy"
    if [ -e "$saved" ] || [ -L "$saved" ]; then mv "$saved" "$policy"; fi
}
# Left by a run that was killed: ours goes, and what it had put aside is still what restore() puts back.
if [ -e "$policy" ] && grep -qxF "$mark" "$policy"; then rm -f "$policy"; fi
if [ -e "$policy" ] || [ -L "$policy" ]; then mv "$policy" "$saved"; fi
trap restore EXIT
trap 'exit 130' INT TERM HUP
say "denying service starts while packages are installed"
printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
say "apt-get update"
apt-get update -qq
say "apt-get install ${packages[*]}"
apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold "${packages[@]}"

mapfile -t left < <(missing)
[ ${#left[@]} -eq 0 ] || die "still missing after the installation: ${left[*]}"
say "done"
