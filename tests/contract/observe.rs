//! What `scripts/observe` has for operators: a real Prometheus scrapes a broker as the example says, its own checker has
//! nothing to complain about, every alert is tried, and every expression of the dashboard finds something.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::support::tokens::{self, SECRETS, bearer};
use super::support::{Broker, Connection, Folder, PATIENCE, Program, finish};

const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/observe");

/// A program's own words, if it is content.
fn content(command: &mut Command) -> String {
    let (code, out, err) = finish(command);
    assert_eq!(code, Some(0), "{command:?}: {out}{err}");
    out + &err
}

fn promtool(arguments: &[&str]) -> String {
    content(Command::new("promtool").args(arguments).current_dir(HOME))
}

fn text(file: &str) -> String {
    std::fs::read_to_string(format!("{HOME}/{file}")).expect("it is there")
}

/// Some of everything.
fn use_broker(broker: &Broker) {
    let pass = |topic: &str| format!("{topic}?token={}", tokens::publisher(topic));
    let subscriber = bearer(&tokens::subscriber("topicone1"));
    broker.publish(&pass("topicone1"), "data: past");
    let mut stream = broker.subscribe("/subscribe/topicone1?last_event_id=0", &subscriber);
    // Whoever has the past is caught up: what comes from now on is timed.
    stream.event();
    for number in 0..7 {
        broker.publish(&pass("topicone1"), &format!("data: {number}"));
        stream.event();
    }
}

#[test]
fn promtool_has_no_complaint() {
    let broker = Broker::start_secured(&["--threads", "2"], &SECRETS);
    use_broker(&broker);
    let folder = Folder::new();
    let file = folder.path.join("metrics");
    let pass = bearer(&tokens::publisher("stats"));
    let answer = broker.ask(format!("GET /metrics HTTP/1.1\r\nHost: h\r\n{pass}\r\n"));
    std::fs::write(&file, &answer.body).expect("it can be written");
    // It reads standard input; of what it would rather have otherwise it says so there, too.
    let said = content(Command::new("sh").args(["-c", "exec promtool check metrics <\"$0\""]).arg(&file));
    assert_eq!(said, "");
}

#[test]
fn alerts_are_raised_when_they_should_be_and_not_otherwise() {
    promtool(&["check", "config", "prometheus.yml"]);
    let said = promtool(&["check", "rules", "alerts.yml"]);
    assert!(said.contains("rules found"), "{said}");
    assert!(promtool(&["test", "rules", "alerts.test.yml"]).contains("SUCCESS"));
    let (alerts, tests) = (text("alerts.yml"), text("alerts.test.yml"));
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} is never raised in its tests");
    }
}

/// The words of a text that are names of metrics.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("esker_") || word.starts_with("process_")).collect()
}

#[test]
fn what_is_spoken_of_there_is_there() {
    let broker = Broker::start(&[]);
    let metrics = broker.metrics();
    let there: BTreeSet<_> = metrics.names().collect();
    for file in ["README.md", "alerts.yml", "alerts.test.yml", "grafana.json"] {
        let text = text(file);
        for name in names(&text) {
            let is_histogram = there.contains(format!("{name}_bucket").as_str());
            assert!(there.contains(name) || is_histogram, "{file} speaks of {name}, which is not there");
        }
    }
    let readme = text("README.md");
    let explained = names(&readme);
    for name in there {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(explained.contains(family), "README.md does not explain {family}");
    }
}

/// A Prometheus that scrapes a broker as the example says, with a token and every second.
struct Prometheus {
    address: SocketAddr,
    // In this order: the program ends before its folder goes.
    _program: Program,
    home: Folder,
}

impl Prometheus {
    fn start(broker: &Broker) -> Self {
        let home = Folder::new();
        let config = text("prometheus.yml")
            .replace("127.0.0.1:3000", &broker.address.to_string())
            .replace(": 15s", ": 1s")
            .replace("# authorization:", "authorization:")
            .replace("#   credentials_file:", "  credentials_file:");
        let write = |name: &str, text: &str| std::fs::write(home.path.join(name), text).expect("it can be written");
        write("prometheus.yml", &config);
        write("alerts.yml", &text("alerts.yml"));
        write("esker-token", &tokens::publisher("stats"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        drop(listener);
        let listen = format!("--web.listen-address={address}");
        let arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn", &listen];
        let program = Program::start(&["prometheus"], &arguments, &home);
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begin.elapsed() < PATIENCE, "it does not listen: {}", home.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { address, _program: program, home }
    }

    fn get(&self, path: &str) -> Value {
        let mut connection = Connection::open(self.address);
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
        let response = connection.response();
        match response.status {
            503 => Value::Null, // It has just begun.
            _ => response.json(),
        }
    }

    /// What an expression comes to now.
    fn query(&self, expression: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/v1/query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC)));
        if answer.is_null() {
            return Vec::new();
        }
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().expect("a vector").clone()
    }

    /// Waits for an expression that comes to this number.
    fn wait_for(&self, expression: &str, number: &str) {
        let begin = Instant::now();
        loop {
            let result = self.query(expression);
            if result.iter().any(|sample| sample["value"][1] == number) {
                return;
            }
            let targets = || self.get("/api/v1/targets");
            assert!(begin.elapsed() < PATIENCE, "{expression}: {result:?} {} {}", targets(), self.home.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Every expression of a dashboard: those of its panels and notes, and what its variables list.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("expr", Value::String(text)) => found.push(text.clone()),
                    ("definition", Value::String(text)) => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// As Grafana would ask it, with everything chosen.
fn asked(expression: &str) -> String {
    let expression = expression.replace("$__rate_interval", "1m").replace("$job", ".+").replace("$instance", ".+");
    let listed = expression.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(','));
    let expression = listed.map_or(expression.clone(), |(series, _)| series.to_owned());
    assert!(!expression.contains('$'), "{expression} has another variable");
    // A mark where something happened: here nothing has.
    expression.strip_suffix("[1m]) > 0").map_or(expression.clone(), |rest| format!("{rest}[1m])"))
}

#[test]
fn a_prometheus_scrapes_and_the_dashboard_has_something_to_show() {
    let broker = Broker::start_secured(&["--threads", "2"], &SECRETS);
    let prometheus = Prometheus::start(&broker);
    prometheus.wait_for("up{job=\"esker\"}", "1");
    use_broker(&broker);
    let fields = format!("{}Content-Type: application/json\r\n", bearer(&tokens::publisher("events")));
    assert_eq!(broker.post("/insert", &fields, "{\"event\":\"a\",\"data\":1}").status, 200);
    prometheus.wait_for("esker_events_published_total", "8");
    prometheus.wait_for("sum(esker_events_delivered_total)", "8");
    prometheus.wait_for("esker_delivery_latency_seconds_count", "7");
    prometheus.wait_for("esker_store_commit_seconds_count", "1");
    prometheus.wait_for("sum by (reason) (esker_streams_closed_total{reason=\"peer\"})", "1");
    prometheus.wait_for("count(count_over_time(esker_threads[1m]) > 2)", "1");

    let dashboard: Value = serde_json::from_str(&text("grafana.json")).expect("it is JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 50, "{}", found.len());
    for expression in found.iter().map(|expression| asked(expression)) {
        assert!(!prometheus.query(&expression).is_empty(), "{expression} finds nothing");
    }
    assert_is_importable(&dashboard);

    let rules = prometheus.get("/api/v1/rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array().expect("rules").clone();
    assert!(rules.iter().all(|rule| rule["health"] == "ok" || rule["health"] == "unknown"), "{rules:?}");
    assert!(rules.iter().all(|rule| rule["state"] != "firing"), "a broker that is well: {rules:?}");
}

/// What Grafana wants of a dashboard: each panel with a number and a place of its own, within the width, and the data
/// source that is chosen.
fn assert_is_importable(dashboard: &Value) {
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let place = |member: &str| panel["gridPos"][member].as_u64().expect("a place");
        let (x, y) = (place("x"), place("y"));
        assert!(x + place("w") <= 24, "{panel}");
        for cell in (y..y + place("h")).flat_map(|row| (x..x + place("w")).map(move |column| (row, column))) {
            assert!(taken.insert(cell), "two panels at {cell:?}");
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()));
        }
    }
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    assert!(dashboard["schemaVersion"].as_u64() >= Some(38) && dashboard["id"].is_null());
}
