//! A minimal broker: one broadcast channel per topic, one task per connection. `GET /subscribe/{topic}` is the stream; `POST
//! /publish/{topic}` sends the body as one event's data. It has no ids, resume or tokens. A subscriber that falls 256 events
//! behind misses what it hasn't read.
//!
//! Usage: broadcast ADDRESS:PORT

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::future::ready;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use futures_util::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio_stream::wrappers::BroadcastStream;

/// Events that a topic keeps for subscribers that are behind.
const RETAINED: usize = 256;

/// The channel of each topic that has ever had a subscriber. All receivers share an event.
#[derive(Clone, Default)]
struct Topics(Arc<RwLock<HashMap<String, Sender<Arc<str>>>>>);

impl Topics {
    fn join(&self, topic: String) -> Receiver<Arc<str>> {
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        topics.entry(topic).or_insert_with(|| broadcast::channel(RETAINED).0).subscribe()
    }

    fn send(&self, topic: &str, data: Arc<str>) {
        let topics = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = topics.get(topic) {
            // An error means that there are no subscribers, which is not the publisher's error.
            let _ = sender.send(data);
        }
    }
}

async fn subscribe(
    State(topics): State<Topics>,
    Path(topic): Path<String>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = BroadcastStream::new(topics.join(topic));
    let events = events.filter_map(|received| ready(received.ok().map(|data| Ok(Event::default().data(data)))));
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn publish(State(topics): State<Topics>, Path(topic): Path<String>, data: String) -> StatusCode {
    topics.send(&topic, data.into());
    StatusCode::OK
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: broadcast ADDRESS:PORT")?;
    // Without it, an event that closely follows another one would wait for that one's acknowledgement.
    let listener = TcpListener::bind(address).await?.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let router = Router::new()
        .route("/subscribe/{topic}", get(subscribe))
        .route("/publish/{topic}", post(publish))
        .with_state(Topics::default());
    Ok(axum::serve(listener, router).await?)
}
