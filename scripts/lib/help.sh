# Sourced by every script here before anything else, while the working directory is the caller's: -h or --help prints the comment
# at the script's beginning and ends it, so that nothing starts that was only asked about.

help_text="$(sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0")"
case "${1:-}" in
-h | --help)
    printf '%s\n' "$help_text"
    exit 0
    ;;
esac

# usage_error TEXT: ends the script because of wrong arguments.
usage_error() {
    printf '%s: %s\n\n%s\n' "${0##*/}" "$1" "$help_text" >&2
    exit 2
}

# no_options ARGUMENT…: refuses options.
no_options() {
    local argument
    for argument in "$@"; do
        case "$argument" in -*) usage_error "there is no option $argument" ;; esac
    done
}

# at_most COUNT ARGUMENT…: refuses options, and more arguments.
at_most() {
    local count="$1"
    shift
    no_options "$@"
    [ "$#" -le "$count" ] || usage_error "unexpected argument '${*:count + 1:1}'"
}
