//! The guide's subscriber programs, over a connection that is cut: nothing is lost or duplicated, and they stop retrying where
//! they must.

use super::super::support::{Broker, Program, Proxy, TIMEOUT, TempDir, finish};
use super::block;
use std::process::Command;
use std::time::{Duration, Instant};

/// A subscriber program from the guide, and the command that runs it.
struct Subscriber {
    programs: &'static [&'static str],
    arguments: &'static [&'static str],
    code: String,
}

fn subscribers() -> [Subscriber; 2] {
    let code = |language| block("resume.md", language, "Events from a URL");
    [
        Subscriber { programs: &["node"], arguments: &["--input-type=module", "-e"], code: code("js") },
        Subscriber { programs: &["python3"], arguments: &["-I", "-c"], code: code("python") },
    ]
}

impl Subscriber {
    fn code_for(&self, url: &str) -> String {
        self.code.replace("http://127.0.0.1:3000/subscribe/greeting", url)
    }
}

#[test]
fn the_guides_subscribers_lose_nothing_when_cut_off() {
    for listener in subscribers() {
        let broker = Broker::start(&["--retry", "50ms"]);
        let proxy = Proxy::start(broker.address);
        let code = listener.code_for(&format!("http://{}/subscribe/greeting", proxy.address));
        let home = TempDir::new();
        let mut expected =
            vec![publish(&broker, "event: greeting\ndata: héllo\ndata: second line", "greeting héllo\nsecond line")];
        let arguments = [listener.arguments, &[code.as_str()]].concat();
        let mut program = Program::start(listener.programs, &arguments, &home);
        wait_for(&home, &mut program, &expected);
        for number in 0..3 {
            proxy.cut_and_hold();
            expected.push(publish(&broker, &format!("data: {number}"), &format!("message {number}")));
            proxy.release();
            wait_for(&home, &mut program, &expected);
        }
        assert_eq!(home.log(), expected.concat(), "once and in order");
    }
}

#[test]
fn the_guides_subscribers_give_up_when_refused() {
    let broker = Broker::start(&[]);
    for listener in subscribers() {
        let code = listener.code_for(&format!("http://{}/subscribe/short", broker.address));
        let (status, out, err) = finish(Command::new(listener.programs[0]).args(listener.arguments).arg(code));
        assert!(status == Some(1) && out.is_empty() && err.contains("400"), "{status:?} {out} {err}");
    }
}

/// Publishes an event and returns what a subscriber program must print.
fn publish(broker: &Broker, text: &str, name_and_data: &str) -> String {
    let id = broker.publish("greeting", text)["id"].as_str().expect("an id").to_owned();
    format!("{name_and_data} {id}\n")
}

fn wait_for(home: &TempDir, program: &mut Program, expected: &[String]) {
    let begin = Instant::now();
    while home.log().len() < expected.concat().len() {
        assert!(begin.elapsed() < TIMEOUT && program.ended().is_none(), "{expected:?} never printed: {}", home.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}
