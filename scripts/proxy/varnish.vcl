vcl 4.1;

# Varnish in front of Esker: HTTP/1.1, and HTTP/2 to browsers, persistent connections to the broker, no buffering.
# Varnish itself has no TLS. Put a TLS proxy such as hitch in front of it, with "alpn-protos = "h2, http/1.1"" and
# "write-proxy-v2 = on", which connects to the second of the addresses here:
#   varnishd -a :80 -a tls=/run/varnish.sock,PROXY,mode=660,user=varnish,group=_hitch -f /etc/varnish/esker.vcl
#     -p feature=+http2 -p h2_max_concurrent_streams=128 -p thread_pool_max=4096
# Each stream takes a thread of at most thread_pools (2) times thread_pool_max (5000), and with HTTP/2, each connection takes one more.
# Adapt the server name and the broker's address.

import std;

backend esker {
    # Or .path = "/run/esker.sock"; instead of both, which can't run out of ports.
    .host = "127.0.0.1";
    .port = "3000";
    .connect_timeout = 5s;
    # Must be longer than --heartbeat (15s).
    .first_byte_timeout = 60s;
    .between_bytes_timeout = 60s;
}

sub vcl_recv {
    if (std.port(local.ip) == 80) {
        return (synth(301));
    }
    set req.http.X-Forwarded-Proto = "https";
    # The broker as part of a website, at /live/subscribe/greeting; the prefix is removed.
    set req.url = regsub(req.url, "^/live/", "/");
    # Varnish appends the client's address to X-Forwarded-For by itself.
    # "pipe" would copy bytes without HTTP; "pass" neither stores nor shares a response, and streams it.
    return (pass);
}

sub vcl_backend_response {
    # The default, unless other code changes it: events are passed on at once.
    set beresp.do_stream = true;
    return (deliver);
}

sub vcl_synth {
    if (resp.status == 301) {
        set resp.http.Location = "https://" + req.http.Host + req.url;
        set resp.reason = "Moved Permanently";
        return (deliver);
    }
}

sub vcl_backend_error {
    # While the broker is not running, streams get 200 and a reconnection time: any other status would stop an EventSource
    # permanently.
    if (bereq.url ~ "^/(subscribe/|events)") {
        set beresp.status = 200;
        set beresp.http.Content-Type = "text/event-stream";
        set beresp.http.Cache-Control = "no-store";
        set beresp.body = {"retry: 3000

"};
        return (deliver);
    }
}
