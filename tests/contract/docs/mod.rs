//! Runs everything that README and the guide show. Every fenced block must have an entry here that says how it is run, and
//! every link must have a target.

mod brokers;
mod page;
mod providers;
mod proxies;
mod publishers;
mod security;
mod shell;
mod subscribers;
mod tokens;

use page::Block;
use shell::Shell;

pub use shell::free_port;

/// How a block is run.
enum How {
    /// In bash, with a broker that is already running or that the block starts.
    Shell(Shell),
    /// As a program that subscribes, see `subscribers.rs`.
    Subscriber,
    /// As a program that publishes, see `publishers.rs`.
    Publisher,
    /// As a program that signs tokens, see `tokens.rs`.
    Signer,
    /// As a proxy's configuration, see `proxies.rs`.
    Proxy,
    /// In browsers, by `tests/browser/docs.test.mjs`, which finds the block by this part of it.
    Browser(&'static str),
    /// By rustdoc: the guide is part of the library's documentation.
    Doctest,
    /// Not as it is. Says what is tested instead, or why nothing is.
    NotHere(&'static str),
}

use How::{Browser, Doctest, NotHere, Proxy, Publisher, Signer, Subscriber};

/// A broker is already running.
const RUNNING: How = after(&[]);
/// The block needs a provider's keys.
const PROVIDER: How = NotHere("a provider; `each_providers_tokens_are_accepted` starts a broker with keys of its own");
/// The block starts its own broker.
const ALONE: How = How::Shell(Shell { after: &[], has_broker: false });

/// In the terminal in which these blocks of the page were run before, with a broker that is already running.
const fn after(after: &'static [usize]) -> How {
    How::Shell(Shell { after, has_broker: true })
}

/// In the terminal in which these blocks were run before, one of which has started a broker.
const fn on(after: &'static [usize]) -> How {
    How::Shell(Shell { after, has_broker: false })
}

/// A page, and for each of its blocks the language, the beginning of its first line, and how it is run.
pub struct Page {
    pub name: &'static str,
    pub text: &'static str,
    blocks: &'static [(&'static str, &'static str, How)],
}

macro_rules! guide {
    ($name:literal, $blocks:expr) => {
        Page { name: $name, text: include_str!(concat!("../../../src/guide/", $name)), blocks: $blocks }
    };
}

const README: Page = Page {
    name: "README.md",
    text: include_str!("../../../README.md"),
    blocks: &[
        ("sh", "scripts/run ", ALONE),
        ("sh", "curl -N http", RUNNING),
        ("text", "event: greeting", NotHere("`the_first_event_looks_as_shown` compares it")),
        ("html", "<script>", Browser("new EventSource(\"http://127.0.0.1:3000/subscribe/greeting?prime\")")),
        ("sh", "make cluster", NotHere("cluster.rs starts it and sends these requests")),
    ],
};

pub const PAGES: &[Page] = &[
    README,
    guide!(
        "publishing.md",
        &[
            ("sh", "curl -d $'event: price", RUNNING),
            ("js", "// Publishes one event", Publisher),
            ("python", "# Publishes one event", Publisher),
            ("php", "<?php", Publisher),
        ]
    ),
    guide!(
        "resume.md",
        &[
            ("sh", "curl -d $'data: one", RUNNING),
            ("sh", "curl -N 'http", RUNNING),
            ("sh", "curl -N 'http", after(&[0])),
            ("sh", "curl -d 'data: hello'", RUNNING),
            ("sh", "curl -d $'id: order-17", RUNNING),
            ("js", "const source", Browser("loadEverything()")),
            ("js", "// Events from a URL", Subscriber),
            ("python", "# Events from a URL", Subscriber),
        ]
    ),
    guide!(
        "history.md",
        &[("sh", "esker --no-auth --history 6000", ALONE), ("sh", "curl -d \"data: $(printf", RUNNING)]
    ),
    guide!(
        "records.md",
        &[
            ("sh", "curl -d '{\"event\": \"user\"", RUNNING),
            ("sh", "curl -d '{\"event\": \"door\"", RUNNING),
            ("sh", "curl -d '{\"event\": \"form\"", RUNNING),
            ("sh", "curl -d '{\"event\": \"order\"", RUNNING),
            ("sh", "curl -d '{\"event\": \"patient\"", RUNNING),
        ]
    ),
    guide!(
        "tokens.md",
        &[
            ("sh", "export ESKER_PUBLISHER_SECRET", ALONE),
            ("sh", "curl -i -H \"Authorization", on(&[0])),
            ("js", "const source", Browser("withCredentials: true")),
            ("js", "async function listen", Browser("async function listen(position)")),
            ("js", "// Node", Signer),
            ("python", "import base64", Signer),
            ("php", "<?php", Signer),
            ("rust", "// With the crates", Signer),
            ("sh", "openssl rand", ALONE),
            ("sh", "openssl genpkey", ALONE),
            ("sh", "mv publisher.pem", on(&[9])),
            ("sh", "mv subscriber.secret", on(&[8])),
            ("sh", "export ESKER_PUBLISHER_SECRET", ALONE),
            ("sh", "export ESKER_PUBLISHER_SECRET", ALONE),
        ]
    ),
    guide!(
        "providers.md",
        &[
            ("sh", "openssl genpkey", ALONE),
            ("sh", "esker --subscriber-key", PROVIDER),
            ("json", "{", PROVIDER),
            ("js", "exports.onExecutePostLogin", NotHere("Auth0; `the_action_sets_the_claim` calls it")),
            ("sh", "esker --subscriber-key", PROVIDER),
            ("json", "{", PROVIDER),
            ("sh", "esker --subscriber-key", PROVIDER),
            ("json", "{", PROVIDER),
            ("cron", "*/10 * * * * root", NotHere("cron; `the_cron_line_fetches_a_set` runs it in a shell")),
        ]
    ),
    guide!(
        "proxies.md",
        &[
            ("nginx", "location / {", Proxy),
            ("caddy", "reverse_proxy", Proxy),
            ("haproxy", "defaults", Proxy),
            ("nginx", "# In http { }", Proxy),
            ("caddy", "handle_path", Proxy),
            ("sh", "curl -N http", RUNNING),
        ]
    ),
    guide!(
        "more_proxies.md",
        &[
            ("apache", "MaxRequestWorkers", Proxy),
            ("lighttpd", "server.stream-response-body", Proxy),
            ("vcl", "sub vcl_recv {", Proxy),
            ("yaml", "proxy.preserve-host", Proxy),
            ("squid", "cache_peer", Proxy),
            ("trafficserver", "CONFIG", Proxy),
            ("yaml", "routes:", Proxy),
            ("yaml", "entryPoints:", Proxy),
        ]
    ),
    guide!("sizing.md", &[("sh", "sysctl fs.nr_open", RUNNING)]),
    guide!(
        "deploying.md",
        &[
            ("sh", "cargo build --release", RUNNING),
            ("sh", "scripts/package", NotHere("root, and minutes; tests/deploy builds and unpacks the packages")),
            ("sh", "docker build", NotHere("a registry; tests/deploy builds the last stage and runs it")),
            ("yaml", "livenessProbe:", NotHere("Kubernetes; health.rs tests both")),
            ("sh", "export ESKER_PUBLISHER_SECRET", ALONE),
            ("text", "[2026-11-29T", NotHere("limit_log.rs makes such lines")),
            ("text", "192.0.2.1 - -", NotHere("access_log.rs tests both formats")),
            ("sh", "esker --no-auth --listen unix:esker.sock", ALONE),
            ("sh", "curl http://127.0.0.1:3000/healthz", RUNNING),
            ("sh", "curl -d 'data: hello'", RUNNING),
            ("sh", "curl http://127.0.0.1:3000/metrics", RUNNING),
        ]
    ),
    guide!(
        "brokers.md",
        &[
            ("sh", "make cluster", NotHere("cluster.rs starts it")),
            ("sh", "redis-server --port", NotHere("`the_guides_brokers_share_a_log` runs it with a server of its own")),
            (
                "sh",
                "esker dump esker-data",
                NotHere("`records_move_to_an_engine_as_shown` runs it with a server of its own")
            ),
            (
                "sh",
                "esker erase redis",
                NotHere(
                    "`erased_text_is_in_no_file_after_a_rewrite` of tests/log does the same, and looks into the files"
                )
            ),
            ("haproxy", "defaults", Proxy),
            ("caddy", "reverse_proxy", Proxy),
            ("nginx", "upstream brokers", Proxy),
            ("sh", "esker --engine redis+sentinel", NotHere("sentinels; tests/log starts some")),
            (
                "sh",
                "esker engine raise",
                NotHere("`the_format_of_a_log_is_raised_as_shown` runs it with a server of its own")
            ),
            ("text", "user esker", NotHere("`the_guide_lists_the_rights` compares it")),
        ]
    ),
    guide!("options.md", &[]),
    guide!(
        "library.md",
        &[
            ("rust", "use esker::{Broker, Config, Event};", Doctest),
            ("rust", "use esker::{Broker, Config, Event, Received, StartFrom};", Doctest),
        ]
    ),
    guide!(
        "backup.md",
        &[
            ("sh", "curl -d '{\"event\": \"user\"", RUNNING),
            // As if the broker had been stopped: the copy has no broker.
            (
                "sh",
                "esker check esker-data",
                NotHere("see `a_store_is_dumped_and_loaded_as_shown`, which stops the broker")
            ),
            (
                "sh",
                "esker dump esker-data | esker load redis",
                NotHere("`records_move_to_an_engine_as_shown` runs it with a server of its own")
            ),
            (
                "sh",
                "esker erase other-data",
                NotHere("see `a_store_is_dumped_and_loaded_as_shown`, after which there is other-data")
            ),
        ]
    ),
    guide!(
        "upgrading.md",
        &[
            ("sh", "curl -N http", RUNNING),
            ("js", "function listen(position) {", Browser("setTimeout(listen, 3000, position)")),
        ]
    ),
    guide!("faq.md", &[]),
    guide!("comparison.md", &[]),
];

fn page(name: &str) -> &'static Page {
    PAGES.iter().find(|page| page.name == name).expect("the page is registered")
}

/// Returns a page's only block in this language that contains `part`.
fn block(name: &str, language: &str, part: &str) -> String {
    let blocks = page::blocks(page(name).text);
    let mut fitting = blocks.into_iter().filter(|block| block.language == language && block.text.contains(part));
    let block = fitting.next().unwrap_or_else(|| panic!("{name} has no {language} with {part:?}"));
    assert!(fitting.next().is_none(), "{name} has two blocks of {language} with {part:?}");
    block.text
}

/// Returns a page's first block in this language.
fn first_block(name: &str, language: &str) -> String {
    let mut blocks = page::blocks(page(name).text).into_iter();
    blocks.find(|block| block.language == language).expect("the page has one").text
}

#[test]
fn every_block_has_an_entry() {
    let browser = include_str!("../../browser/docs.test.mjs");
    for page in PAGES {
        let shown = page::blocks(page.text);
        let has_entry = |(block, (language, beginning, _)): (&Block<'_>, &(&str, &str, How))| {
            block.language == *language && block.first_line().starts_with(beginning)
        };
        let mismatch = shown.iter().zip(page.blocks).find(|&pair| !has_entry(pair));
        assert!(
            mismatch.is_none(),
            "{}: tests/contract/docs/mod.rs has no entry for the block {:?}",
            page.name,
            mismatch.map(|mismatch| mismatch.0)
        );
        assert_eq!(shown.len(), page.blocks.len(), "{}: blocks on the page and entries here", page.name);
        for (block, (language, _, how)) in shown.iter().zip(page.blocks) {
            match how {
                Browser(part) => {
                    assert!(block.text.contains(part), "{}: {part}", page.name);
                    let call = format!("block(\"{}\", \"{language}\", {})", page.name, serde_json::json!(part));
                    assert!(browser.contains(&call), "tests/browser/docs.test.mjs does not run {call}");
                }
                Doctest => assert_eq!(*language, "rust"),
                NotHere(why) => {
                    assert!(!why.is_empty());
                    if *language == "sh" {
                        shell::assert_syntax(&block.text);
                    }
                }
                How::Shell(_) | Subscriber | Publisher | Signer | Proxy => {}
            }
        }
    }
}

#[test]
fn every_shell_block_works_as_shown() {
    for page in PAGES {
        let shown = page::blocks(page.text);
        for (at, (_, _, how)) in page.blocks.iter().enumerate() {
            if let How::Shell(shell) = how {
                println!("{}, block {at}", page.name);
                let texts: Vec<_> = shell.after.iter().chain([&at]).map(|&at| shown[at].text.as_str()).collect();
                shell::run(&texts, shell.has_broker);
            }
        }
    }
}

/// The output of the first terminal is next to the commands, not in them.
#[test]
fn the_first_event_looks_as_shown() {
    let shown = page::blocks(page("README.md").text);
    let comments: String = shown[2].text.lines().map(|line| format!("# {line}\n")).collect();
    shell::run(&[&shown[1].text, &comments], true);
}

/// The second block of the page on backup requires a broker that has stopped.
#[test]
fn a_store_is_dumped_and_loaded_as_shown() {
    let shown = page::blocks(page("backup.md").text);
    let stop = "kill -TERM $(pidof esker); while kill -0 $(pidof esker) 2>/dev/null; do sleep 0.1; done\n";
    shell::run(&["esker --no-auth\n", &shown[0].text, stop, &shown[1].text, &shown[3].text], false);
}

/// Two brokers on one machine need other ports than the one that the blocks of other pages use.
#[test]
fn the_guides_brokers_share_a_log() {
    let text = page::blocks(page("brokers.md").text).swap_remove(1).text;
    let ports = ["6379", "3001", "3002"];
    let text = ports.iter().fold(text, |text, port| text.replace(port, &free_port().to_string()));
    shell::run(&[&text], false);
}

/// Returns a command that starts a server, and this block of a page with the server's port.
fn with_server(page_name: &str, beginning: &str) -> [String; 2] {
    let port = free_port().to_string();
    let server = format!("redis-server --port {port} --save '' --appendonly yes --appendfsync always\n");
    let mut blocks = page::blocks(page(page_name).text).into_iter();
    let block = blocks.find(|block| block.first_line().starts_with(beginning)).expect("the page has it");
    [server, block.text.replace("6379", &port)]
}

#[test]
fn records_move_to_an_engine_as_shown() {
    let line = "{\"id\":\"1700000000000000\",\"event\":\"user\",\"data\":1}";
    let store = format!("echo '{line}' | esker load esker-data\n");
    let [server, text] = with_server("backup.md", "esker dump esker-data | esker load");
    shell::run(&[&server, &store, &text, "esker dump third-data\n", &format!("# {line}\n")], false);
    let [server, text] = with_server("brokers.md", "esker dump esker-data | esker load");
    shell::run(&[&server, &store, &text], false);
}

#[test]
fn the_format_of_a_log_is_raised_as_shown() {
    let [server, text] = with_server("brokers.md", "esker engine raise");
    let url = text.split_whitespace().nth(3).expect("the URL of the engine");
    // This creates a log of the newest format.
    let create = format!("esker load {url} </dev/null\n");
    let port = url.rsplit(':').next().expect("a port");
    let lower =
        format!("exec 3<>/dev/tcp/127.0.0.1/{port}\necho 'HSET {{esker}}:1:meta layout 2 format 2' >&3\nread -r <&3\n");
    shell::run(&[&server, &create, &lower, &text], false);
}

/// With Redis 7.0, which has no WAITAOF.
#[test]
fn the_guide_lists_the_rights() {
    let rights = esker::internals::engine::redis::acl_rules("{esker}", false);
    assert!(page("brokers.md").text.contains(&rights), "{rights}");
}

/// The messages that the page on several brokers explains are those of the broker.
#[test]
fn the_explained_messages_exist() {
    let (_, table) = page("brokers.md").text.split_once("## Messages").expect("the page has this section");
    let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let messages: Vec<_> = cells.flat_map(|(cell, _)| cell.split('`').step_by(2)).collect();
    assert!(messages.len() > 20, "{messages:?}");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: String = ["src/engine", "src/config"].map(|dir| sources_in(&root.join(dir))).concat();
    for message in messages.iter().filter(|message| message.len() > 8) {
        assert!(sources.contains(message), "{message}");
    }
}

/// Returns the text of all files below a directory, with the literals that span lines in one.
fn sources_in(dir: &std::path::Path) -> String {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let text = |path: std::path::PathBuf| {
        if path.is_dir() { sources_in(&path) } else { std::fs::read_to_string(path).expect("text") }
    };
    let joined = |text: String| text.split("\\\n").map(str::trim_start).collect::<String>();
    entries.map(text).map(joined).collect()
}

/// Network settings are visible only in the machine's own namespace, and those of a firewall only where it runs.
#[test]
fn the_kernel_has_the_named_settings() {
    let root = std::path::Path::new("/proc/sys");
    let is_first = root.join("net/ipv4/tcp_mem").exists();
    let words = page("sizing.md").text.split(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c));
    let names: Vec<_> = words.filter(|word| word.starts_with("fs.") || word.starts_with("net.")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in
        names.into_iter().filter(|name| !name.starts_with("net.netfilter") && (is_first || name.starts_with("fs.")))
    {
        assert!(root.join(name.replace('.', "/")).exists(), "{name}");
    }
}

/// Documents outside the guide.
const DOCUMENTS: [&str; 11] = [
    "README.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "bench/README.md",
    "scripts/client/README.md",
    "scripts/demo/README.md",
    "scripts/load/README.md",
    "scripts/observe/README.md",
    "tests/fuzz/README.md",
];

#[test]
fn every_link_has_a_target() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = PAGES.iter().map(|page| page.name).filter(|name| !DOCUMENTS.contains(name));
    for name in guide.map(|name| format!("src/guide/{name}")).chain(DOCUMENTS.map(str::to_owned)) {
        let document = root.join(&name);
        let text = std::fs::read_to_string(&document).unwrap_or_else(|error| panic!("{name}: {error}"));
        for link in page::links(&text).iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let file = if path.is_empty() { document.clone() } else { document.with_file_name(path) };
            assert!(file.exists(), "{name}: {link} leads nowhere");
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&file).expect("it can be read");
                assert!(page::anchors(&text).iter().any(|there| there == anchor), "{name}: {link}");
            }
        }
    }
}

/// A reference without a definition would be shown as plain text where the file is read, and one that src/guide/mod.rs does not have
/// would lead out of rustdoc's pages.
#[test]
fn the_guide_links_to_its_own_pages() {
    let in_rustdoc = page::definitions(include_str!("../../../src/guide/mod.rs"));
    for page in PAGES.iter().filter(|page| page.name != "README.md") {
        let defined = page::definitions(page.text);
        for name in page::references(page.text) {
            assert!(defined.contains(&name), "{}: [{name}] is not defined at its end", page.name);
            assert!(in_rustdoc.contains(&name), "{}: [{name}] is not in src/guide/mod.rs", page.name);
        }
        for name in &defined {
            assert!(page.text.contains(&format!("[{name}]: {name}.md")), "{}: [{name}]", page.name);
        }
        assert!(!page.text.contains(".md)"), "{}: a link in line leads nowhere in rustdoc", page.name);
    }
}
