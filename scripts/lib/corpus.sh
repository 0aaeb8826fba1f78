# A fuzz corpus as text: one input per line, sorted by byte, each once. \n, \r, \t and \\ stand for line feed, carriage return,
# tab and backslash, \xNN for any other byte outside printable ASCII. src/fuzz/corpus.rs reads this format.

# pack_corpus DIRECTORY: prints the directory's files as a corpus. The text depends on the files' bytes alone, not on their names.
pack_corpus() {
    local file
    for file in "$1"/*; do
        [ -e "$file" ] || continue
        od -An -v -tu1 "$file"
        echo end
    done | LC_ALL=C awk '
        $1 == "end" { print line; line = ""; next }
        { for (i = 1; i <= NF; i++) line = line escaped($i + 0) }
        function escaped(byte) {
            if (byte == 9) return "\\t"
            if (byte == 10) return "\\n"
            if (byte == 13) return "\\r"
            if (byte == 92) return "\\\\"
            return sprintf(byte >= 32 && byte < 127 ? "%c" : "\\x%02x", byte)
        }' | LC_ALL=C sort -u
}

# unpack_corpus FILE DIRECTORY: writes each input of a corpus to a file named after its line number. A target without a corpus, as a
# new one is, leaves the directory empty.
unpack_corpus() {
    local line number=0
    mkdir -p "$2"
    [ -e "$1" ] || return 0
    while IFS= read -r line; do
        number=$((number + 1))
        printf '%b' "$line" >"$2/$number"
    done <"$1"
}
