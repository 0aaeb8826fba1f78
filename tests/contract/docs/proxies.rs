//! The guide's proxy configurations. Those of the most common proxies are completed to minimal files: an event published through
//! the proxy arrives through it immediately. The others are parts of the recipes.

use super::super::records::insert;
use super::super::support::front::{CADDY, HAPROXY, NGINX, ProxyKind, start};
use super::super::support::{Broker, Connection, Stream};
use super::{block, first_block, page};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Far more than a delivery takes, and less than the kernel's delay when an application asks it to coalesce packets.
const MAX_DELAY: Duration = Duration::from_millis(150);

/// Publishes five events through the proxy. The fastest one shows whether the proxy buffers, because the machine may be busy.
fn assert_works(kind: &ProxyKind, shown: &str, prefix: &str) {
    let broker = Broker::start(&[]);
    let (address, _front) = start(kind, |_| shown.replace("127.0.0.1:3000", &broker.address.to_string()));
    let mut stream = Stream::open(Connection::open(address), &format!("{prefix}/subscribe/greeting"), "");
    stream.opening();
    let deliver = |number: u32| {
        let body = format!("data: {number}");
        let mut connection = Connection::open(address);
        let begin = Instant::now();
        connection.send(format!(
            "POST {prefix}/publish/greeting HTTP/1.1\r\nHost: esker\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(connection.response().status, 200);
        assert_eq!(stream.event().data, Some(number.to_string()));
        begin.elapsed()
    };
    let quickest = (0..5).map(deliver).min().expect("five of them");
    assert!(quickest < MAX_DELAY, "{}: {quickest:?}", kind.program);
    assert_keeps_names(&broker, address, prefix);
}

/// The name of a record arrives unchanged.
fn assert_keeps_names(broker: &Broker, address: SocketAddr, prefix: &str) {
    let id = insert(broker, "a/b", "1");
    insert(broker, "b", "2");
    let audit = |name: &str| {
        let mut connection = Connection::open(address);
        connection.send(format!("GET {prefix}/audit/{name} HTTP/1.1\r\nHost: esker\r\n\r\n"));
        connection.response()
    };
    assert_eq!(audit("a%2Fb").text(), format!("{{\"a/b_v_{id}\":1}}\n"));
    assert_eq!(audit("a%2F..%2Fb").status, 400);
}

#[test]
fn the_guides_nginx_buffers_nothing() {
    assert_works(&NGINX, &block("proxies.md", "nginx", "location / {"), "");
}

#[test]
fn the_guides_nginx_strips_a_prefix() {
    assert_works(&NGINX, &block("proxies.md", "nginx", "map $request_uri"), "/live");
}

#[test]
fn the_guides_caddy_buffers_nothing() {
    assert_works(&CADDY, &first_block("proxies.md", "caddy"), "");
}

#[test]
fn the_guides_caddy_strips_a_prefix() {
    assert_works(&CADDY, &block("proxies.md", "caddy", "handle_path"), "/live");
}

#[test]
fn the_guides_haproxy_buffers_nothing() {
    assert_works(&HAPROXY, &block("proxies.md", "haproxy", "option http-no-delay"), "");
}

/// The recipes are run by `recipes`.
#[test]
fn the_guide_shows_parts_of_the_recipes() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/proxy");
    let files = [
        "apache.conf",
        "lighttpd.conf",
        "varnish.vcl",
        "h2o.conf",
        "squid.conf",
        "trafficserver/records.config",
        "envoy.yaml",
        "traefik/traefik.yaml",
    ];
    let shown = page::blocks(page("more_proxies.md").text);
    assert_eq!(shown.len(), files.len());
    for (block, file) in shown.iter().zip(files) {
        let recipe = std::fs::read_to_string(root.join(file)).expect("the recipe exists");
        let has = |line: &str| recipe.lines().any(|other| other.trim() == line.trim());
        let missing = block.text.lines().find(|line| !has(line));
        assert_eq!(missing, None, "{file}");
    }
}
