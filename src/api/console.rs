//! `GET /`: the console, one page that contains its style and scripts. The page is assembled once, on the first request, and
//! has no data of its own: its scripts call the other routes, with the token that the user enters.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use crate::http::Response;

const PAGE: &str = include_str!("console/page.html");
const STYLE: &str = include_str!("console/style.css");
/// The scripts in the order of the page. Names that are used while the page loads must be defined before.
const SCRIPTS: [&str; 11] = [
    include_str!("console/dom.js"),
    include_str!("console/text.js"),
    include_str!("console/tokens.js"),
    include_str!("console/broker.js"),
    include_str!("console/stream.js"),
    include_str!("console/events.js"),
    include_str!("console/send.js"),
    include_str!("console/audit.js"),
    include_str!("console/topics.js"),
    include_str!("console/charts.js"),
    include_str!("console/main.js"),
];

static CONSOLE: LazyLock<Console> = LazyLock::new(Console::assemble);

/// The page, and the Content-Security-Policy that limits what it can do.
struct Console {
    html: String,
    policy: String,
}

impl Console {
    fn assemble() -> Self {
        let scripts = format!("\"use strict\";\n{}", SCRIPTS.concat());
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            hash_source(&scripts),
            hash_source(STYLE),
        );
        let html = PAGE.replacen("/* style */", STYLE, 1).replacen("/* scripts */", &scripts, 1);
        Self { html, policy }
    }
}

/// Returns the hash source by which a Content-Security-Policy allows one inline block.
fn hash_source(block: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest(&SHA256, block.as_bytes())))
}

/// Returns the page.
pub(super) fn response() -> Response {
    let Console { html, policy } = &*CONSOLE;
    Response::fixed("text/html; charset=utf-8", html)
        .field("Content-Security-Policy", policy.as_str())
        .field("Referrer-Policy", "no-referrer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_style_do_not_contain_closing_tags() {
        for script in SCRIPTS {
            assert!(!script.contains("</script") && !script.contains("<!--"));
            assert!(script.starts_with("// "), "each says what it is for");
        }
        assert!(!STYLE.contains("</style"));
        assert_eq!(CONSOLE.html.matches("<script>").count() + CONSOLE.html.matches("<style>").count(), 2);
    }
}
