# Sourced by scripts that start brokers, after packages.sh: builds target/release/esker if the sources have changed.

# rustup installs programs here, but the shell that ran it may not have the directory in its PATH yet.
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
script="scripts/${0##*/}"
esker="${CARGO_TARGET_DIR:-target}/release/esker"
wanted="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"

# explain_rust PROBLEM: explains how to install Rust, and exits.
explain_rust() {
    cat >&2 <<TEXT
$script: $1 Esker needs Rust $wanted or later. To install it (see https://rustup.rs):

  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh

Then start $script again.
TEXT
    exit 1
}

check_rust() {
    local version
    has cargo && has rustc || explain_rust "Rust is missing."
    version="$(rustc --version | cut -d ' ' -f 2)"
    if [ "$(printf '%s\n' "$wanted" "${version%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
        explain_rust "Rust $version is too old."
    fi
}

is_built() {
    [ -x "$esker" ] && [ -z "$(find Cargo.toml Cargo.lock .cargo src README.md -newer "$esker" -print -quit)" ]
}

build() {
    local packages
    read -ra packages <<<"$(missing_for_building | tr '\n' ' ')"
    if [ "${#packages[@]}" -gt 0 ]; then
        echo "$script: installing ${packages[*]}, which the build needs"
        install_packages "${packages[@]}"
    fi
    if [ ! -x "$esker" ]; then echo "$script: compiling Esker; the first time takes about 3 minutes on two cores"; fi
    cargo build --release --locked
}

build_if_needed() {
    if ! is_built; then
        check_rust
        build
    fi
}
