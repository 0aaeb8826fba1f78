//! nchan: nginx with Debian's libnginx-mod-nchan, one worker process per core, events in shared memory, and one location each
//! for subscribers and publishers, as its manual shows.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::launch;
use super::{Dialect, Failure, Running, Scratch};

const DIALECT: Dialect = Dialect {
    prepare: None,
    subscribe,
    resume: Some(resume),
    publish,
    publish_many: None,
    connecting: super::CONNECTING,
};

/// Starts it on these cores.
pub fn start(core: &str) -> Result<Running, Failure> {
    let scratch = Scratch::new()?;
    let [address] = launch::free_addresses()?;
    let file = scratch.path().join("nginx.conf");
    fs::write(&file, configuration(scratch.path(), address, launch::count_cores(core)?))?;
    let version = format!(
        "nchan {}, nginx {}",
        launch::package_version("libnginx-mod-nchan")?,
        launch::package_version("nginx")?
    );
    let root = launch::command(core, &scratch, Path::new("nginx"))?.arg("-c").arg(file).spawn()?;
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
fn configuration(scratch: &Path, address: SocketAddr, workers: usize) -> String {
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
    nchan_message_buffer_length 256;
    nchan_message_timeout 10m;

    server {{
        listen {address} backlog=4096;

        location ~ ^/subscribe/(\w+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
            nchan_eventsource_ping_interval 15;
            nchan_eventsource_ping_event "";
            nchan_eventsource_ping_comment ping;
        }}

        location ~ ^/resume/(\w+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message oldest;
        }}

        location ~ ^/publish/(\w+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
        }}
    }}
}}
"#
    )
}
