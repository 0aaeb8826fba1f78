//! Damage that a check finds.

use super::super::DURABLE;
use super::super::redis_server::RedisServer;
use super::{key, lines, load, run};

#[test]
fn a_check_finds_what_is_missing_wrong_or_too_much() {
    let redis = RedisServer::start(&DURABLE);
    let version = |name: &str, id: u64| format!("{name}\0{id:020}");
    let [log, meta, records, index, newest] = ["log", "meta", "rec", "idx", "new"].map(key);
    let first_entry = || -> String {
        let entries: Vec<(String, Vec<String>)> = redis.command(&["XRANGE", &log, "-", "+", "COUNT", "2"]);
        entries.last().expect("an entry").0.clone()
    };
    for (damage, what) in [
        (vec!["ZREM", &index, &version("n1", 4)], "record 4 is missing from the index"),
        (vec!["ZADD", &index, "0", &version("n1", 5)], "the index has \"n1\\0"),
        (vec!["ZADD", &index, "0", "junk"], "the index has \"junk\", which is no record"),
        (vec!["ZREM", &newest, "n2"], "record 29 is not kept as the newest one of \"n2\""),
        (vec!["ZADD", &newest, "5", "n2"], "the newest record of \"n2\" is 29, but 5 is kept as the newest one"),
        (vec!["ZADD", &newest, "7", "n9"], "the name \"n9\" has a newest record, 7, but no records"),
        (vec!["XDEL", &records, "8-0"], "00000008\", which is no record"),
        (vec!["XDEL", &records, "29-0"], "the newest record of \"n2\" is 26, but 29 is kept"),
        (vec!["HSET", &meta, "rbytes", "1"], "bytes, but 1 are noted"),
        (vec!["HSET", &meta, "entry", "5"], "but 5 is noted"),
        (vec!["HSET", &meta, "last", "5"], "but the newest id that it knows is 5"),
        (vec!["XDEL", &log, "the second"], "does not follow entry"),
        (vec!["XADD", &records, "31-0", "e", "a\nb", "d", "{"], "record 31 is not valid JSON"),
        (vec!["XADD", &records, "31-0", "e", "a\nb", "d", "{"], "record 31: the name has a control character"),
    ] {
        redis.command::<()>(&["FLUSHALL"]);
        load(&redis, &lines(20));
        load(&redis, &lines(30).lines().skip(20).map(|line| format!("{line}\n")).collect::<String>());
        assert_eq!(run(&["check", &redis.url()]).code, Some(0));
        let second = first_entry();
        let words: Vec<&str> = damage.iter().map(|word| if *word == "the second" { &*second } else { *word }).collect();
        redis.command::<redis::Value>(&words);
        let checked = run(&["check", &redis.url()]);
        assert_eq!(checked.code, Some(1), "{damage:?}: {}", checked.errors);
        assert!(checked.errors.contains("problems found:") && checked.errors.contains(what), "{}", checked.errors);
    }
}

#[test]
fn a_check_reports_a_hundred_problems_at_most() {
    let redis = RedisServer::start(&DURABLE);
    load(&redis, &lines(1000));
    redis.command::<u32>(&["DEL", &key("idx")]);
    let checked = run(&["check", &redis.url()]);
    assert_eq!(checked.errors.lines().count(), 1 + 100, "{}", checked.errors);
}
