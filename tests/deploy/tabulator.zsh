# Prints what stands on a zsh's command line after the tabulator: tabulator.zsh COMPLETIONS LINE FOLDER
# The zsh at the pseudo-terminal tells it by a file in that folder: the terminal itself shows far more than that.
zmodload zsh/zpty
ready=$3/ready told=$3/told
rm -f $ready $told

await() {
    local shown
    repeat 1000; do
        zpty -r -t shell shown
        if [[ -e $1 ]]; then return; fi
        sleep 0.01
    done
    print -u2 "never: $1"
    exit 1
}

zpty -b shell zsh -f -i
zpty -w shell "PS1=; autoload -U compinit; compinit -D -u; source ${(q)1}"
zpty -w shell "tell() { zle complete-word; print -r -- \"\$BUFFER\" > ${(q)told}.new; mv ${(q)told}.new ${(q)told}; }"
zpty -w shell "zle -N tell; bindkey '^I' tell; : > ${(q)ready}"
await $ready
zpty -n -w shell "$2"$'\t'
await $told
cat $told
zpty -d shell
