//! `scripts/observe`: a real Prometheus scrapes a broker as the example describes, promtool reports no problem, every alert is
//! tested, and every expression of the dashboard finds data.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::redis_server::RedisServer;
use super::support::tokens::{self, SECRETS, bearer};
use super::support::{Broker, Connection, Program, TIMEOUT, TempDir, finish};

const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/observe");

/// Runs a program that must succeed, and returns its output.
fn run_successfully(command: &mut Command) -> String {
    let (code, out, err) = finish(command);
    assert_eq!(code, Some(0), "{command:?}: {out}{err}");
    out + &err
}

fn promtool(arguments: &[&str]) -> String {
    run_successfully(Command::new("promtool").args(arguments).current_dir(HOME))
}

fn read_file(file: &str) -> String {
    std::fs::read_to_string(format!("{HOME}/{file}")).expect("it is there")
}

/// Produces some of every kind of traffic.
fn generate_traffic(broker: &Broker) {
    let pass = |topic: &str| format!("{topic}?token={}", tokens::publisher(topic));
    let subscriber = bearer(&tokens::subscriber("topicone1"));
    broker.publish(&pass("topicone1"), "data: past");
    let mut stream = broker.subscribe("/subscribe/topicone1?last_event_id=0", &subscriber);
    // Once the history has arrived, the subscriber is caught up, and deliveries from now on are timed.
    stream.event();
    for number in 0..7 {
        broker.publish(&pass("topicone1"), &format!("data: {number}"));
        stream.event();
    }
}

#[test]
fn promtool_reports_no_problem() {
    let redis = RedisServer::start(&[]);
    let broker = Broker::start_with_tokens(&["--threads", "2", "--engine", &redis.url()], &SECRETS);
    generate_traffic(&broker);
    let dir = TempDir::new();
    let file = dir.path.join("metrics");
    let pass = bearer(&tokens::publisher("stats"));
    let response = broker.request(format!("GET /metrics HTTP/1.1\r\nHost: h\r\n{pass}\r\n"));
    std::fs::write(&file, &response.body).expect("it can be written");
    // promtool reads standard input, and prints its suggestions to standard output.
    let output = run_successfully(Command::new("sh").args(["-c", "exec promtool check metrics <\"$0\""]).arg(&file));
    assert_eq!(output, "");
}

#[test]
fn alerts_fire_only_when_they_should() {
    promtool(&["check", "config", "prometheus.yml"]);
    let output = promtool(&["check", "rules", "alerts.yml"]);
    assert!(output.contains("rules found"), "{output}");
    assert!(promtool(&["test", "rules", "alerts.test.yml"]).contains("SUCCESS"));
    let (alerts, tests) = (read_file("alerts.yml"), read_file("alerts.test.yml"));
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} is never raised in its tests");
    }
}

/// Returns the names of metrics in a text.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("esker_") || word.starts_with("process_")).collect()
}

#[test]
fn every_mentioned_metric_exists() {
    let redis = RedisServer::start(&[]);
    let broker = Broker::start(&["--engine", &redis.url()]);
    let metrics = broker.metrics();
    let there: BTreeSet<_> = metrics.names().collect();
    for file in ["README.md", "alerts.yml", "alerts.test.yml", "grafana.json"] {
        let text = read_file(file);
        for name in metric_names(&text) {
            let is_histogram = there.contains(format!("{name}_bucket").as_str());
            assert!(there.contains(name) || is_histogram, "{file} mentions {name}, which doesn't exist");
        }
    }
    let readme = read_file("README.md");
    let explained = metric_names(&readme);
    for name in there {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(explained.contains(family), "README.md does not explain {family}");
    }
}

/// A Prometheus that scrapes a broker every second as the example describes, with a token.
struct Prometheus {
    address: SocketAddr,
    // Fields are dropped in this order: the program ends before its directory is removed.
    _program: Program,
    home: TempDir,
}

impl Prometheus {
    fn start(broker: &Broker) -> Self {
        let home = TempDir::new();
        let config = read_file("prometheus.yml")
            .replace("127.0.0.1:3000", &broker.address.to_string())
            .replace(": 15s", ": 1s")
            .replace("# authorization:", "authorization:")
            .replace("#   credentials_file:", "  credentials_file:");
        let write = |name: &str, text: &str| std::fs::write(home.path.join(name), text).expect("it can be written");
        write("prometheus.yml", &config);
        write("alerts.yml", &read_file("alerts.yml"));
        write("esker-token", &tokens::publisher("stats"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        drop(listener);
        let listen = format!("--web.listen-address={address}");
        let arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn", &listen];
        let program = Program::start(&["prometheus"], &arguments, &home);
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begin.elapsed() < TIMEOUT, "Prometheus doesn't listen: {}", home.log());
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

    /// Returns the current value of an expression.
    fn query(&self, expression: &str) -> Vec<Value> {
        let response = self.get(&format!("/api/v1/query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC)));
        if response.is_null() {
            return Vec::new();
        }
        assert_eq!(response["status"], "success", "{expression}: {response}");
        response["data"]["result"].as_array().expect("a vector").clone()
    }

    /// Waits until an expression has this value.
    fn wait_for(&self, expression: &str, number: &str) {
        let begin = Instant::now();
        loop {
            let result = self.query(expression);
            if result.iter().any(|sample| sample["value"][1] == number) {
                return;
            }
            let targets = || self.get("/api/v1/targets");
            assert!(begin.elapsed() < TIMEOUT, "{expression}: {result:?} {} {}", targets(), self.home.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Collects every expression of a dashboard: in panels, annotations and variables.
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

/// Returns the expression as Grafana sends it with every variable set to "all".
fn with_variables(expression: &str) -> String {
    let expression = expression.replace("$__rate_interval", "1m").replace("$job", ".+").replace("$instance", ".+");
    let listed = expression.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(','));
    let expression = listed.map_or(expression.clone(), |(series, _)| series.to_owned());
    assert!(!expression.contains('$'), "{expression} has another variable");
    // An annotation marks an incident, and here none has happened.
    expression.strip_suffix("[1m]) > 0").map_or(expression.clone(), |rest| format!("{rest}[1m])"))
}

#[test]
fn prometheus_scrapes_and_every_dashboard_expression_has_data() {
    let redis = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let broker = Broker::start_with_tokens(&["--threads", "2", "--engine", &redis.url()], &SECRETS);
    let prometheus = Prometheus::start(&broker);
    prometheus.wait_for("up{job=\"esker\"}", "1");
    generate_traffic(&broker);
    let fields = format!("{}Content-Type: application/json\r\n", bearer(&tokens::publisher("events")));
    assert_eq!(broker.post("/insert", &fields, "{\"event\":\"a\",\"data\":1}").status, 200);
    prometheus.wait_for("esker_events_published_total", "8");
    prometheus.wait_for("sum(esker_events_delivered_total)", "8");
    prometheus.wait_for("esker_delivery_latency_seconds_count", "7");
    prometheus.wait_for("esker_engine_records_appended_total", "1");
    prometheus.wait_for("sum by (reason) (esker_streams_closed_total{reason=\"peer\"})", "1");
    prometheus.wait_for("count(count_over_time(esker_threads[1m]) > 2)", "1");

    let dashboard: Value = serde_json::from_str(&read_file("grafana.json")).expect("it is JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 50, "{}", found.len());
    for expression in found.iter().map(|expression| with_variables(expression)) {
        assert!(!prometheus.query(&expression).is_empty(), "{expression} finds nothing");
    }
    assert_is_importable(&dashboard);

    let rules = prometheus.get("/api/v1/rules");
    let rules = rules["data"]["groups"][0]["rules"].as_array().expect("rules").clone();
    assert!(rules.iter().all(|rule| rule["health"] == "ok" || rule["health"] == "unknown"), "{rules:?}");
    assert!(rules.iter().all(|rule| rule["state"] != "firing"), "an alert fires for a healthy broker: {rules:?}");
}

/// Asserts what Grafana requires of a dashboard: each panel has a unique id and its own cells within the grid, and uses the
/// selected data source.
fn assert_is_importable(dashboard: &Value) {
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let grid = |member: &str| panel["gridPos"][member].as_u64().expect("a number");
        let (x, y) = (grid("x"), grid("y"));
        assert!(x + grid("w") <= 24, "{panel}");
        for cell in (y..y + grid("h")).flat_map(|row| (x..x + grid("w")).map(move |column| (row, column))) {
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
