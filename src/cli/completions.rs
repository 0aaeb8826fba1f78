//! `esker completions`: what shells complete, made of the tables of options and commands.

use std::fmt::Write as _;

use super::commands::{COMMANDS, Entry, Kind, SHELLS};
use super::options::{OPTIONS, Opt};

/// One option, of the broker or of a command, as a shell sees it.
struct Flag {
    short: Option<char>,
    long: &'static str,
    value: &'static str,
    help: &'static str,
}

impl Flag {
    fn kind(&self) -> Kind {
        Kind::of(self.value)
    }

    fn repeats(&self) -> bool {
        self.help.contains("repeatable")
    }

    /// `--long`, and `-s` if there is one.
    fn names(&self) -> Vec<String> {
        std::iter::once(format!("--{}", self.long)).chain(self.short.map(|short| format!("-{short}"))).collect()
    }
}

const HELP: Flag = Flag { short: Some('h'), long: "help", value: "", help: "print the options" };
const VERSION: Flag = Flag { short: Some('V'), long: "version", value: "", help: "print the version" };

fn broker_flags() -> Vec<Flag> {
    let flag = |option: &Opt| Flag { short: option.short, long: option.long, value: option.value, help: option.help };
    OPTIONS.iter().map(flag).chain([HELP, VERSION]).collect()
}

fn command_flags(entry: &Entry) -> Vec<Flag> {
    let flags = entry.options.iter().map(|&(long, value, help)| Flag { short: None, long, value, help });
    flags.chain([HELP]).collect()
}

/// The completions for one of [`SHELLS`].
pub(super) fn completions(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

fn command_names() -> String {
    COMMANDS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(" ")
}

const BASH_HEAD: &str = "\
# Completions of esker for bash, made by `esker completions bash`.
_esker() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words= operand=
    # Bash makes three words of --data=here.
    if [ \"$current\" = = ]; then
        current=
    elif [ \"$previous\" = = ]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    COMPREPLY=()
    case $previous in
";

const BASH_TAIL: &str = "\
    if [ -n \"$operand\" ] && [[ $current != -* ]]; then
        _esker_paths -d \"$current\"
        return
    fi
    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")
}
_esker_paths() {
    # Outside of a completion there is nothing to set.
    compopt -o filenames 2>/dev/null || :
    mapfile -t COMPREPLY < <(compgen \"$1\" -- \"$2\")
}
complete -F _esker esker
";

fn bash() -> String {
    let mut text = String::from(BASH_HEAD);
    let commands = COMMANDS.iter().flat_map(command_flags);
    let flags: Vec<_> = broker_flags().into_iter().chain(commands).collect();
    for (kind, action) in [
        (Kind::File, "_esker_paths -f \"$current\"; return"),
        (Kind::Directory, "_esker_paths -d \"$current\"; return"),
        (Kind::Text, "return"),
    ] {
        let names: Vec<_> = flags.iter().filter(|flag| flag.kind() == kind).flat_map(Flag::names).collect();
        if !names.is_empty() {
            // Writing to a string can't fail.
            let _ = writeln!(text, "    {}) {action} ;;", names.join(" | "));
        }
    }
    text.push_str(
        "    esac\n    local command=\n    if [ \"$COMP_CWORD\" -gt 1 ]; then command=${COMP_WORDS[1]}; fi\n",
    );
    text.push_str("    case $command in\n");
    for entry in COMMANDS {
        let mut words = words(&command_flags(entry));
        let mut operand = "";
        match Kind::of(entry.operand) {
            Kind::Directory => operand = " operand=yes",
            Kind::Shell => words = format!("{} {words}", SHELLS.join(" ")),
            _ => {}
        }
        let _ = writeln!(text, "    {}) words='{words}'{operand} ;;", entry.name);
    }
    let broker = words(&broker_flags());
    let _ = writeln!(text, "    '') words='{} {broker}' ;;\n    *) words='{broker}' ;;\n    esac", command_names());
    text + BASH_TAIL
}

fn words(flags: &[Flag]) -> String {
    flags.iter().flat_map(Flag::names).collect::<Vec<_>>().join(" ")
}

fn zsh() -> String {
    let mut text =
        String::from("#compdef esker\n# Completions of esker for zsh, made by `esker completions zsh`.\n_esker() {\n");
    text.push_str("    if (( CURRENT > 2 )); then\n        case $words[2] in\n");
    for entry in COMMANDS {
        let _ = writeln!(text, "        {})\n            shift words\n            (( CURRENT-- ))", entry.name);
        let _ = writeln!(text, "            _arguments -s{}{}", zsh_specs(&command_flags(entry)), zsh_operand(entry));
        text.push_str("            return\n            ;;\n");
    }
    text.push_str("        esac\n    fi\n");
    let described = |entry: &Entry| format!("{}\\:{}", entry.name, zsh_words(entry.help));
    let commands = COMMANDS.iter().map(described).collect::<Vec<_>>().join(" ");
    let _ = writeln!(text, "    _arguments -s{} \\\n        '1:command:(({commands}))'", zsh_specs(&broker_flags()));
    text + "}\n# Loaded by compinit this file is the function's body; sourced it announces the function.\nif [ \"$funcstack[1]\" = _esker ]; then\n    _esker \"$@\"\nelse\n    compdef _esker esker\nfi\n"
}

fn zsh_specs(flags: &[Flag]) -> String {
    flags.iter().map(|flag| format!(" \\\n        {}", zsh_spec(flag))).collect()
}

/// Such as `'(-p --port)'{-p+,--port=}'[port]:N:'`.
fn zsh_spec(flag: &Flag) -> String {
    let (equals, plus) = if flag.kind() == Kind::Nothing { ("", "") } else { ("=", "+") };
    let action = match flag.kind() {
        Kind::Nothing => String::new(),
        kind => format!(":{}:{}", flag.value, zsh_action(kind)),
    };
    let help = format!("[{}]{action}", zsh_text(flag.help));
    let star = if flag.repeats() { "*" } else { "" };
    match flag.short {
        Some(short) => {
            format!("'(-{short} --{long})'{{-{short}{plus},--{long}{equals}}}'{help}'", long = flag.long)
        }
        None => format!("'{star}--{}{equals}{help}'", flag.long),
    }
}

fn zsh_action(kind: Kind) -> String {
    match kind {
        Kind::File => "_files".into(),
        Kind::Directory => "_files -/".into(),
        Kind::Shell => format!("({})", SHELLS.join(" ")),
        Kind::Nothing | Kind::Text => " ".into(),
    }
}

fn zsh_operand(entry: &Entry) -> String {
    match Kind::of(entry.operand) {
        Kind::Nothing => String::new(),
        kind => format!(" \\\n        '1:{}:{}'", entry.operand, zsh_action(kind)),
    }
}

/// For inside of brackets inside of single quotes.
fn zsh_text(text: &str) -> String {
    text.replace('[', "\\[").replace(']', "\\]").replace('\'', "'\\''")
}

/// For a list of words, each with its description.
fn zsh_words(text: &str) -> String {
    text.replace(' ', "\\ ").replace(':', "\\:")
}

fn fish() -> String {
    let mut text =
        String::from("# Completions of esker for fish, made by `esker completions fish`.\ncomplete -c esker -f\n");
    let broker = format!("not __fish_seen_subcommand_from {}", command_names());
    for flag in broker_flags() {
        fish_line(&mut text, &broker, &flag);
    }
    for entry in COMMANDS {
        let _ =
            writeln!(text, "complete -c esker -n __fish_use_subcommand -a {} -d {}", entry.name, quoted(entry.help));
    }
    for entry in COMMANDS {
        let seen = format!("__fish_seen_subcommand_from {}", entry.name);
        for flag in command_flags(entry) {
            fish_line(&mut text, &seen, &flag);
        }
        if let Some(proposals) = fish_proposals(Kind::of(entry.operand)) {
            let _ = writeln!(text, "complete -c esker -n {} {proposals}", quoted(&seen));
        }
    }
    text
}

fn fish_line(text: &mut String, condition: &str, flag: &Flag) {
    let short = flag.short.map_or(String::new(), |short| format!(" -s {short}"));
    let value = match flag.kind() {
        Kind::Nothing => String::new(),
        Kind::File => " -r -F".into(),
        kind => format!(" -x {}", fish_proposals(kind).unwrap_or_default()),
    };
    let help = quoted(flag.help);
    let line = format!("complete -c esker -n {}{short} -l {}{value}", quoted(condition), flag.long);
    let _ = writeln!(text, "{} -d {help}", line.trim_end());
}

fn fish_proposals(kind: Kind) -> Option<String> {
    match kind {
        Kind::Directory => Some("-a '(__fish_complete_directories)'".into()),
        Kind::Shell => Some(format!("-a '{}'", SHELLS.join(" "))),
        Kind::Nothing | Kind::Text | Kind::File => None,
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_knows_every_option_and_command() {
        for shell in SHELLS {
            let text = completions(shell).unwrap();
            for flag in broker_flags().into_iter().chain(COMMANDS.iter().flat_map(command_flags)) {
                let name = if shell == "fish" { format!("-l {}", flag.long) } else { format!("--{}", flag.long) };
                assert!(text.contains(&name), "{shell}: {name}");
            }
            assert!(COMMANDS.iter().all(|entry| text.contains(entry.name)), "{shell}");
        }
        assert_eq!(completions("tcsh"), None);
    }

    /// Bash's function knows what a value is by the option's name alone.
    #[test]
    fn an_options_name_says_what_it_takes() {
        let flags: Vec<_> = broker_flags().into_iter().chain(COMMANDS.iter().flat_map(command_flags)).collect();
        for flag in &flags {
            let same = flags.iter().filter(|other| other.long == flag.long);
            assert!(same.clone().all(|other| other.kind() == flag.kind()), "--{}", flag.long);
        }
    }
}
