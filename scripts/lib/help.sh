# Every script sources this first, before it changes the working directory: -h or --help prints the comment at the top of the
# script and exits, so that nothing starts.

help_text="$(sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0")"
case "${1:-}" in
-h | --help)
    printf '%s\n' "$help_text"
    exit 0
    ;;
esac

# usage_error TEXT: prints an error and the help to standard error, and exits with 2.
usage_error() {
    printf '%s: %s\n\n%s\n' "${0##*/}" "$1" "$help_text" >&2
    exit 2
}

# no_options ARGUMENT…: exits with a usage error if an argument is an option.
no_options() {
    local argument
    for argument in "$@"; do
        case "$argument" in -*) usage_error "unknown option '$argument'" ;; esac
    done
}

# at_most COUNT ARGUMENT…: exits with a usage error if an argument is an option, or if there are more than COUNT.
at_most() {
    local count="$1"
    shift
    no_options "$@"
    [ "$#" -le "$count" ] || usage_error "unexpected argument '${*:count + 1:1}'"
}
