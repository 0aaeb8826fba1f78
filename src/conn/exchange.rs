//! One connection's requests and responses, as bytes in and bytes out: a state machine without a socket, fed in whatever
//! pieces the network delivers.
//!
//! ```text
//!        head complete      body complete
//!  Head ─────────────► Body ─────────────► outcome ──► response ──► Head, or the end
//!   │                   │                    │
//!   │ malformed         │ malformed          ├──► Working (a large publish, in slices) ──► outcome
//!   │                   │                    ├──► Waiting (no room in the hub) ──► outcome
//!   └─► response, end   └─► response, end    ├──► Deferred, LookingUp (another thread's reply) ──► outcome
//!                                            └──► a stream: the exchange is over
//! ```
//! A head whose token may not be verified yet is not consumed: the exchange is `Delayed`, and starts over with the same bytes.
//!
//! A body that the request's route does not use, or of a request that is refused, is read and dropped before the response, so
//! that the connection can be used again; malformed chunks still get a 400. The body is not waited for if it is longer
//! than [`MAX_DROPPED_BODY`], arrives too slowly, or if the client asks with `Expect: 100-continue` whether to send it: the
//! response then says `Connection: close`, because a client that is refused may leave the body out or send it, so that the
//! start of the next request is unknown (RFC 9110 section 10.1.1).

mod body;
mod head;
mod outcome;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::api::publish::PausedPublish;
use crate::api::subscribe::{Lookup, LookupReply, OpenStream};
use crate::api::{Body, Context, Deferred, DeferredResult, audit, erase, insert, publish, revoke};
use crate::conn::timeout::TimeoutKind;
use crate::http::access_log::AccessLine;
use crate::http::{Problem, Response, ResponseParams};
use crate::metrics::BodyRefusal;
use body::{Receiving, TOO_SLOW, count_refusal};
use head::Delayed;
use outcome::{DeferredKind, LookingUp, closing};

/// Bytes of an unwanted body that are read and dropped so that the connection can be used again.
pub const MAX_DROPPED_BODY: usize = 64 << 10;

/// What the exchange holds between two pieces of bytes.
#[derive(Debug, Default)]
enum State {
    /// Nothing of a request was read, or a part of its head.
    #[default]
    Head,
    /// The head is complete, the body is not.
    Body(Box<Receiving>),
    /// A large publish is processed in slices.
    Working(Box<PausedPublish>, ResponseParams),
    /// A publish waits for room in the hub.
    Waiting(Box<PausedPublish>, ResponseParams),
    /// Another thread answers the request.
    Deferred(ResponseParams, DeferredKind),
    /// A stream's position is looked up by another thread.
    LookingUp(Box<LookingUp>),
    /// The head is complete, and its token waits to be verified. The head is not consumed.
    Delayed(Box<Delayed>),
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Read more bytes.
    Read,
    /// A response was written; the next request may follow.
    Responded,
    /// The hub has no room; call [`Exchange::resume`] after a while.
    Wait,
    /// The token may not be verified yet; call [`Exchange::advance`] with the same bytes later.
    Delay,
    /// There is more work; call [`Exchange::resume`] when other connections have had their share.
    Work,
    /// Have another thread answer the request; call [`Exchange::deliver`] with its reply.
    Defer(Deferred),
    /// Look up a stream's position; call [`Exchange::open_after_lookup`] with the reply.
    LookUp(Lookup),
    /// The connection becomes this subscriber's once the output is written.
    Stream(OpenStream),
    /// Close the connection once the output is written.
    Close,
}

/// The state machine of one connection.
#[derive(Debug, Default)]
pub struct Exchange {
    state: State,
    /// Whether a part of a request was read.
    has_begun: bool,
    /// Whether a response was ever written.
    is_used: bool,
    /// Whether a response was written since [`Exchange::take_responded`] was last called.
    has_responded: bool,
    /// The client's address that a trusted proxy has reported in the last head that was complete.
    forwarded_for: Option<IpAddr>,
    /// The beginning of the request's line in the access log, if there is one.
    access_line: Option<AccessLine>,
}

impl Exchange {
    /// Parses `bytes` and writes the response to `out`. Returns how many bytes were consumed, and what is to be done next.
    pub fn advance(&mut self, bytes: &[u8], context: Context<'_>, out: &mut Vec<u8>) -> (usize, Step) {
        match std::mem::take(&mut self.state) {
            State::Head => self.take_head(bytes, true, context, out),
            State::Delayed(_) => self.take_head(bytes, false, context, out),
            State::Body(receiving) => self.take_body(*receiving, bytes, self.at_client(context), out),
            working @ State::Working(..) => {
                self.state = working;
                (0, Step::Work)
            }
            waiting @ (State::Waiting(..) | State::Deferred(..) | State::LookingUp(_)) => {
                self.state = waiting;
                (0, Step::Wait)
            }
        }
    }

    /// Resumes a publish that had to wait, or that is too much work to be done at once.
    pub fn resume(&mut self, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        let context = self.at_client(context);
        match std::mem::take(&mut self.state) {
            State::Working(pending, params) | State::Waiting(pending, params) => {
                self.take_outcome(publish::resume(*pending, context), params, context, out)
            }
            state => {
                self.state = state;
                Step::Read
            }
        }
    }

    /// Writes the response for the reply to a deferred request.
    pub fn deliver(&mut self, result: DeferredResult, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        let context = self.at_client(context);
        match std::mem::take(&mut self.state) {
            State::Deferred(params, _) => self.respond(&result.into_response(context), params, context, out),
            state => {
                self.state = state;
                Step::Read
            }
        }
    }

    /// Opens a stream with the reply to its lookup.
    pub fn open_after_lookup(&mut self, reply: LookupReply, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        let context = self.at_client(context);
        match std::mem::take(&mut self.state) {
            State::LookingUp(looking_up) => self.begin_stream(looking_up.open(reply, context, out), context),
            state => {
                self.state = state;
                Step::Read
            }
        }
    }

    /// Responds to the request that took too long.
    pub fn time_out(&mut self, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        let context = self.at_client(context);
        match std::mem::take(&mut self.state) {
            State::Head if !self.has_begun => Step::Close,
            State::Head => {
                let problem = Problem::new(408, "the request head did not arrive in time; send it without pauses");
                self.refuse_head(problem, &[], context, out)
            }
            State::Body(receiving) if receiving.content.is_none() => {
                let Receiving { plan, params, .. } = *receiving;
                self.finish(plan, Body::Read(&[]), closing(params), context, out)
            }
            State::Body(receiving) => {
                count_refusal(BodyRefusal::Slow, context);
                let problem = Problem::new(408, TOO_SLOW);
                self.respond(&problem.into(), closing(receiving.params), context, out)
            }
            State::Deferred(params, DeferredKind::Publish) => {
                self.respond(&publish::timed_out(context).into(), closing(params), context, out)
            }
            State::Deferred(params, DeferredKind::Insert) => {
                self.respond(&insert::timed_out(context).into(), closing(params), context, out)
            }
            State::Deferred(params, DeferredKind::EngineInsert) => {
                self.respond(&insert::engine_timed_out(context).into(), closing(params), context, out)
            }
            State::Deferred(params, DeferredKind::Revoke) => {
                self.respond(&revoke::timed_out(context).into(), closing(params), context, out)
            }
            State::Deferred(params, DeferredKind::Audit) => {
                self.respond(&audit::timed_out(context).into(), closing(params), context, out)
            }
            State::Deferred(params, DeferredKind::Erase) => {
                self.respond(&erase::timed_out().into(), closing(params), context, out)
            }
            State::LookingUp(looking_up) => {
                self.begin_stream(looking_up.open(LookupReply::Unavailable, context, out), context)
            }
            State::Working(paused, params) | State::Waiting(paused, params) => {
                self.respond(&paused.time_out(context).into(), params, context, out)
            }
            State::Delayed(delayed) => self.refuse_unverified(*delayed, context, out),
        }
    }

    /// Returns the address of the client whose head was read last; `peer` is that of the connection's peer.
    pub fn client_address(&self, peer: Option<IpAddr>) -> Option<IpAddr> {
        self.forwarded_for.or(peer)
    }

    /// Returns the context of the request that is being processed.
    fn at_client<'a>(&self, context: Context<'a>) -> Context<'a> {
        context.forwarded_for(self.forwarded_for)
    }

    /// Returns whether a response was written since [`Exchange::take_responded`] was last called.
    pub fn has_responded(&self) -> bool {
        self.has_responded
    }

    /// Returns whether a response was written since the last call.
    pub fn take_responded(&mut self) -> bool {
        std::mem::take(&mut self.has_responded)
    }

    /// Returns what is being waited for.
    pub fn awaited(&self) -> TimeoutKind {
        match (&self.state, self.has_begun, self.is_used) {
            (State::Working(..), ..) => TimeoutKind::Work,
            (State::Waiting(..), ..) => TimeoutKind::Room,
            (State::Deferred(_, DeferredKind::Publish | DeferredKind::EngineInsert), ..) => TimeoutKind::Engine,
            (State::Deferred(..), ..) => TimeoutKind::Store,
            (State::Body(receiving), ..) if receiving.content.is_none() => TimeoutKind::Drop,
            (State::LookingUp(_), ..) => TimeoutKind::Lookup,
            (State::Delayed(_), ..) => TimeoutKind::Verification,
            (State::Body(_), ..) => TimeoutKind::Body,
            (State::Head, true, _) => TimeoutKind::Head,
            (State::Head, false, false) => TimeoutKind::First,
            (State::Head, false, true) => TimeoutKind::Next,
        }
    }

    /// Writes a response.
    fn respond(
        &mut self,
        response: &Response,
        params: ResponseParams,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let params = if response.closes { closing(params) } else { outcome::closing_if_draining(params, context) };
        self.note_response(response.status, Some(params.body_len(response)), context);
        params.write(response, context.headers, out);
        self.end_request(&params)
    }

    /// Ends a request whose response is written.
    fn end_request(&mut self, params: &ResponseParams) -> Step {
        self.has_begun = false;
        self.is_used = true;
        self.has_responded = true;
        if params.keep_alive { Step::Responded } else { Step::Close }
    }
}
