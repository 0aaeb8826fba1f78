//! The messages between workers, and from other threads to a worker: everything that reaches a worker except frames.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::api::subscribe::LookupReply;
use crate::api::{DeferredReply, Service};
use crate::conn::ConnectionId;
use crate::hub::WorkerId;
use crate::net::acceptor::Accepted;

/// A message to a worker.
pub(crate) enum Message<S> {
    /// A connection from the acceptor.
    Accepted(Accepted<S>),
    /// The reply to a connection's deferred request.
    Reply(ConnectionId, DeferredReply),
    /// The reply to the lookup of a stream's position.
    LookedUp(ConnectionId, LookupReply),
    /// A client waits to be accepted, and there is no slot: one idle connection is to be closed.
    CloseIdle,
}

/// A worker's mailbox, and the sending ends of all workers' mailboxes. The channels are unbounded; what they hold is bounded by
/// the connections: each of them was accepted once, and waits for at most one reply.
pub(crate) struct Mailbox<S> {
    worker: WorkerId,
    messages: Receiver<Message<S>>,
    mailboxes: Vec<Sender<Message<S>>>,
}

impl<S: Send + 'static> Mailbox<S> {
    /// Creates the mailboxes of this many workers.
    pub(crate) fn for_workers(count: usize) -> Vec<Self> {
        let (mailboxes, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| unbounded()).unzip();
        let mailbox = |(worker, messages)| Self { worker, messages, mailboxes: mailboxes.clone() };
        receivers.into_iter().enumerate().map(mailbox).collect()
    }

    /// Returns the number of workers.
    pub(crate) fn workers(&self) -> usize {
        self.mailboxes.len()
    }

    /// Returns whether no message waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Takes the next message.
    pub(crate) fn take(&self) -> Option<Message<S>> {
        self.messages.try_recv().ok()
    }

    /// Sends a message to a worker, and wakes it.
    pub(crate) fn send(&self, worker: WorkerId, message: Message<S>, service: &Service) {
        // A worker that has ended needs no messages.
        if self.mailboxes[worker].send(message).is_ok() {
            service.hub.wake(worker);
        }
    }

    /// Returns a function that sends a reply to this worker from another thread, as the message that `wrap` makes of it.
    pub(crate) fn reply<T>(
        &self,
        service: &Arc<Service>,
        wrap: impl FnOnce(T) -> Message<S> + Send + 'static,
    ) -> impl FnOnce(T) + Send + 'static {
        let (worker, mailbox, service) = (self.worker, self.mailboxes[self.worker].clone(), Arc::clone(service));
        move |reply| {
            // A worker that has ended has no client left to respond to.
            let _ = mailbox.send(wrap(reply));
            service.hub.wake(worker);
        }
    }
}
