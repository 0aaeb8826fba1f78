//! A replica that lags becomes the server: the end of the log is gone, though it was acknowledged and delivered. Every stream
//! is told so.

use super::cluster::Cluster;
use super::failover::Failover;
use super::ledger::TOPICS;
use super::load::Load;
use super::lock_machine;
use super::oracle::Gaps;

#[test]
fn every_stream_is_told_that_the_log_has_lost_its_end() {
    let _lock = lock_machine();
    let mut servers = Failover::start();
    let cluster = Cluster::on(&servers.url(), 2);
    let load = Load::start(&cluster, 8, 60);
    load.await_accepted(100);

    servers.stop_replication();
    load.await_accepted(100);
    let lost = load.ledger.newest();
    servers.fail_over();

    load.followers.await_gaps();
    load.await_accepted(100);
    for node in &cluster.nodes {
        let target = format!("/subscribe/{}", TOPICS[0]);
        let mut stream = node.broker().subscribe(&target, &format!("Last-Event-ID: {lost}\r\n"));
        stream.opening();
        let gap = stream.event();
        assert_eq!(gap.name.as_deref(), Some("gap"), "{lost} is not in the log any more: {gap:?}");
        let ids = std::iter::from_fn(|| stream.next()).filter_map(|event| event.id?.parse::<u64>().ok());
        assert!(ids.take(5).all(|id| id > lost), "ids never fall");
    }
    let verdict = load.judge(&cluster, Gaps::Allowed);
    eprintln!("{verdict}");
    assert_eq!(verdict.gaps, 60, "each stream is told once");
}
