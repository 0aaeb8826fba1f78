//! nchan: nginx with Debian's libnginx-mod-nchan, one worker process per core, events in shared memory, and one location each
//! for subscribers and publishers, as its manual shows. Several nodes share a redis-server as the manual shows, too: an upstream
//! with `nchan_redis_server`, and `nchan_redis_pass` in each location. What else concerns Redis has nchan's defaults: in the
//! mode `distributed`, Redis stores the messages, and a publish gets its response when Redis has the message.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::launch;
use super::redis::Redis;
use super::{Dialect, Failure, Running, Scratch};

const DIALECT: Dialect = Dialect {
    prepare: None,
    subscribe,
    resume: Some(resume),
    publish,
    publish_many: None,
    connecting: super::CONNECTING,
};

/// Messages that a channel retains, as many as Esker by default.
const HISTORY: usize = 256;

/// Where messages are stored, and how many of each channel.
struct Storage {
    /// The definition of the servers that store them.
    upstream: String,
    /// The directive for a location that uses these.
    pass: &'static str,
    history: usize,
}

/// Starts it on these cores, with messages in its own memory.
pub fn start(cores: &str) -> Result<Running, Failure> {
    start_with(&Storage { upstream: String::new(), pass: "", history: HISTORY }, cores)
}

/// Starts a node on these cores, with messages in Redis.
pub fn start_on_redis(redis: &Redis, history: Option<usize>, cores: &str) -> Result<Running, Failure> {
    let upstream = format!("upstream shared {{ nchan_redis_server {}; }}", redis.url());
    let pass = "nchan_redis_pass shared;";
    start_with(&Storage { upstream, pass, history: history.unwrap_or(HISTORY) }, cores)
}

fn start_with(storage: &Storage, cores: &str) -> Result<Running, Failure> {
    let scratch = Scratch::new()?;
    let [address] = launch::free_addresses()?;
    let file = scratch.path().join("nginx.conf");
    fs::write(&file, configuration(scratch.path(), address, launch::count_cores(cores)?, storage))?;
    let version = format!(
        "nchan {}, nginx {}",
        launch::package_version("libnginx-mod-nchan")?,
        launch::package_version("nginx")?
    );
    let root = launch::command(cores, &scratch, Path::new("nginx"))?.arg("-c").arg(file).spawn()?;
    launch::delivering(Running { version, root, scratch, subscribe_at: address, publish_at: address, dialect: DIALECT })
}

fn subscribe(topic: &str) -> String {
    format!("GET /subscribe/{topic} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
}

fn resume(topic: &str) -> String {
    subscribe(topic).replacen("/subscribe/", "/resume/", 1)
}

fn publish(topic: &str, data: &str) -> String {
    let length = data.len();
    format!("POST /publish/{topic} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{data}")
}

/// Debian's configuration, except for: no access log, as many connections as descriptors, publishers' connections without a
/// limit of requests (nginx closes them after 1 000), and Esker's defaults for retained events and heartbeats.
fn configuration(scratch: &Path, address: SocketAddr, workers: usize, storage: &Storage) -> String {
    let Storage { upstream, pass, history } = storage;
    let scratch = scratch.display();
    format!(
        r#"
daemon off;
worker_processes {workers};
worker_rlimit_nofile 20000;
pid {scratch}/pid;
error_log {scratch}/error.log;
load_module /usr/lib/nginx/modules/ngx_nchan_module.so;

events {{
    worker_connections 20000;
}}

http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    nchan_message_buffer_length {history};
    nchan_message_timeout 10m;
    {upstream}

    server {{
        listen {address} backlog=4096;

        location ~ ^/subscribe/(\w+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            {pass}
            nchan_subscriber_first_message newest;
            nchan_eventsource_ping_interval 15;
            nchan_eventsource_ping_event "";
            nchan_eventsource_ping_comment ping;
        }}

        location ~ ^/resume/(\w+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            {pass}
            nchan_subscriber_first_message oldest;
        }}

        location ~ ^/publish/(\w+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
            {pass}
        }}
    }}
}}
"#
    )
}
