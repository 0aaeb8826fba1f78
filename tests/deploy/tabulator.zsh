# Prints zsh's command line after Tab: tabulator.zsh COMPLETIONS LINE FOLDER
# The zsh in the pseudo-terminal writes it to a file in that directory, because the terminal shows far more.
zmodload zsh/zpty
ready=$3/ready result=$3/result
rm -f $ready $result

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
zpty -w shell "report() { zle complete-word; print -r -- \"\$BUFFER\" > ${(q)result}.new; mv ${(q)result}.new ${(q)result}; }"
zpty -w shell "zle -N report; bindkey '^I' report; : > ${(q)ready}"
await $ready
zpty -n -w shell "$2"$'\t'
await $result
cat $result
zpty -d shell
