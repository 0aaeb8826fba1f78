# Sourced by scripts that need programs that may be missing: installs Debian packages as root or with sudo.

policy=/usr/sbin/policy-rc.d
made_policy=

# has PROGRAM…: succeeds if at least one of the programs is installed.
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
        echo "${0##*/}: '$*' needs root; run it as root, or install sudo, then start ${0##*/} again" >&2
        return 1
    fi
}

# Prints the missing packages that a build needs besides Rust: ring, SQLite and jemalloc are written in C.
missing_for_building() {
    has cc || echo gcc libc6-dev
    has make || echo make
}

# install_packages NAME…
install_packages() {
    if ! has apt-get; then
        echo "${0##*/}: this needs what Debian calls $*, but there is no apt-get; use your system's package manager, for example:" >&2
        printf '  %s\n' "dnf install gcc make" "apk add build-base" "pacman -S base-devel" >&2
        return 1
    fi
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive TMPDIR=/tmp apt-get install -q -y --no-install-recommends "$@"
}

# Some packages start a service when they are installed. The scripts start their own programs, so no service is wanted.
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
