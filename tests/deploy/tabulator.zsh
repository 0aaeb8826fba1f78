# Prints what stands on a zsh's command line after the tabulator: tabulator.zsh COMPLETIONS LINE
zmodload zsh/zpty
zpty -b shell zsh -f -i
zpty -w shell 'PS1= PS2= RPS1=; unsetopt zle_bracketed_paste 2>/dev/null; stty -echo; autoload -U compinit; compinit -D -u'
zpty -w shell "source ${(q)1}"
# The tabulator completes, and tells the whole line in brackets.
zpty -w shell 'told() { zle complete-word; print -r -- "<<$BUFFER>>" > $TTY }; zle -N told; bindkey "^I" told; print READY'
zpty -r -m shell seen '*READY*'
zpty -n -w shell "$2"$'\t'
zpty -r -m shell seen '*<<*>>*'
print -r -- "${${seen##*<<}%%>>*}"
zpty -d shell
