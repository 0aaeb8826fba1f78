# Sourced by scripts that need programs which may be missing: Debian's packages, installed by root or sudo.

policy=/usr/sbin/policy-rc.d
made_policy=

# has PROGRAM…: whether one of them is there.
has() {
    local program
    for program in "$@"; do
        if command -v "$program" >/dev/null; then return 0; fi
    done
    return 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        echo "${0##*/}: '$*' needs root; run it as root, or install sudo, and start ${0##*/} again" >&2
        return 1
    fi
}

# Prints the packages that a build needs beside Rust, of those that are missing: ring, SQLite and jemalloc are C.
missing_for_building() {
    has cc || echo gcc libc6-dev
    has make || echo make
}

# install_packages NAME…
install_packages() {
    if ! has apt-get; then
        echo "${0##*/}: this needs what Debian calls $*, and there is no apt-get; use this system's package manager, such as:" >&2
        printf '  %s\n' "dnf install gcc make" "apk add build-base" "pacman -S base-devel" >&2
        return 1
    fi
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive TMPDIR=/tmp apt-get install -q -y --no-install-recommends "$@"
}

# Some packages start services. The scripts start their own programs, and nobody asked for a service on this machine.
forbid_services() {
    if [ ! -e "$policy" ]; then
        made_policy=yes
        printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy"
    fi
}

allow_services() {
    if [ -n "$made_policy" ]; then as_root rm -f "$policy"; fi
    made_policy=
}
