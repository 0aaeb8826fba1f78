//! One connection's requests and answers, as bytes in and bytes out: a state machine without a
//! socket, fed in whatever pieces the network makes.
//!
//! ```text
//!          head whole        body whole
//!  Head ─────────────► Body ─────────────► answer ──► Head, or the end
//!   │                   │                    │
//!   │ malformed         │ malformed          ├──► Waiting (no room in the hub) ──► answer
//!   └──► answer, end    └──► answer, end     └──► a stream: the exchange is over
//! ```

use super::connection::Patience;
use crate::api::publish::{self, Pending};
use crate::api::subscribe::{self, Opened};
use crate::api::{Context, Outcome, Plan, plan};
use crate::http::{Content, Decoder, Head, Parsed, Problem, Reply, Response, head};
use crate::hub::Joined;
use crate::sse::Framing;

/// Where the exchange is between two pieces of bytes.
#[derive(Debug, Default)]
enum State {
    /// Nothing of a request has come, or a part of its head.
    #[default]
    Head,
    /// The head has come, the body not yet whole.
    Body(Box<Receiving>),
    /// The request is understood and can't be answered yet.
    Waiting(Box<Waiting>),
}

#[derive(Debug)]
struct Receiving {
    plan: Plan,
    reply: Reply,
    decoder: Decoder,
    content: Content,
}

#[derive(Debug)]
struct Waiting {
    pending: Pending,
    reply: Reply,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// More bytes are needed.
    Read,
    /// A request was answered; the next one may follow.
    Answered,
    /// The hub has no room; call [`Exchange::retry`].
    Wait,
    /// The connection is to become this subscriber's.
    Stream(Joined, Framing),
    /// The connection is to be closed once the output is written.
    Close,
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Exchange {
    state: State,
    has_begun: bool,
    is_used: bool,
    has_turned: bool,
}

impl Exchange {
    /// Goes on with `bytes`; writes to `out` and answers how many bytes were taken.
    pub fn advance(&mut self, bytes: &[u8], context: Context<'_>, out: &mut Vec<u8>) -> (usize, Step) {
        match std::mem::take(&mut self.state) {
            State::Head => self.take_head(bytes, context, out),
            State::Body(receiving) => self.take_body(*receiving, bytes, context, out),
            waiting @ State::Waiting(_) => {
                self.state = waiting;
                (0, Step::Wait)
            }
        }
    }

    fn take_head(&mut self, bytes: &[u8], context: Context<'_>, out: &mut Vec<u8>) -> (usize, Step) {
        match head::parse(bytes) {
            Ok(Parsed::Partial) => {
                self.has_begun = !bytes.is_empty();
                (0, Step::Read)
            }
            Ok(Parsed::Complete(head, len)) => {
                self.has_begun = true;
                let (body, step) = self.begin(&head, &bytes[len..], context, out);
                (len + body, step)
            }
            Err(problem) => (bytes.len(), refuse(problem, context, out)),
        }
    }

    /// The head is understood: answers how many bytes of the body were taken, and what is next.
    fn begin(&mut self, head: &Head<'_>, rest: &[u8], context: Context<'_>, out: &mut Vec<u8>) -> (usize, Step) {
        let service = context.service;
        let reply = Reply {
            version: head.version,
            keep_alive: head.keep_alive && !service.is_draining(),
            head_only: head.method == crate::http::Method::Head,
            cors: context.house.origins.decide(head.origin),
        };
        service.metrics.worker(context.worker).requests.add(1);
        let plan = plan(head, context);
        let decoder = match Decoder::new(head.framing, service.settings.max_body) {
            Ok(decoder) => decoder,
            Err(error) => return (0, self.answer(&Problem::from(error).into(), closing(reply), context, out)),
        };
        if decoder.is_done() {
            return (0, self.finish(plan, &[], reply, context, out));
        }
        // Nobody waits for the body of a request that is refused anyway.
        if let Plan::Refuse(problem) = plan {
            return (0, self.answer(&problem.into(), closing(reply), context, out));
        }
        if head.expects_continue && rest.is_empty() {
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if let head::Framing::Length(length) = head.framing
            && let Some(body) = usize::try_from(length).ok().and_then(|length| rest.get(..length))
        {
            return (body.len(), self.finish(plan, body, reply, context, out));
        }
        let content = service.bodies.content();
        self.take_body(Receiving { plan, reply, decoder, content }, rest, context, out)
    }

    fn take_body(
        &mut self,
        mut receiving: Receiving,
        bytes: &[u8],
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> (usize, Step) {
        let Receiving { plan, decoder, content, .. } = &mut receiving;
        let is_wanted = plan.wants_body();
        let taken = decoder.decode(bytes, |run| if is_wanted { content.extend(run) } else { Ok(()) });
        match taken {
            Err(error) => {
                (bytes.len(), self.answer(&Problem::from(error).into(), closing(receiving.reply), context, out))
            }
            Ok(taken) if receiving.decoder.is_done() => {
                let Receiving { plan, reply, content, .. } = receiving;
                (taken, self.finish(plan, content.bytes(), reply, context, out))
            }
            Ok(taken) => {
                self.state = State::Body(Box::new(receiving));
                (taken, Step::Read)
            }
        }
    }

    fn finish(&mut self, plan: Plan, body: &[u8], reply: Reply, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        match plan.finish(body, context) {
            Outcome::Answer(response) => self.answer(&response, reply, context, out),
            Outcome::Subscribe(_) if reply.head_only => {
                subscribe::head_only(reply, context, out);
                self.answered(reply)
            }
            Outcome::Subscribe(request) => match subscribe::open(&request, reply, context, out) {
                Opened::Joined(joined, framing) => Step::Stream(joined, framing),
                Opened::Ended => Step::Close,
            },
            Outcome::Wait(pending) => {
                self.state = State::Waiting(Box::new(Waiting { pending, reply }));
                Step::Wait
            }
        }
    }

    fn answer(&mut self, response: &Response, reply: Reply, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        reply.write(response, context.house, out);
        self.answered(reply)
    }

    fn answered(&mut self, reply: Reply) -> Step {
        self.has_begun = false;
        self.is_used = true;
        self.has_turned = true;
        if reply.keep_alive { Step::Answered } else { Step::Close }
    }

    /// Tries once more what had to wait.
    pub fn retry(&mut self, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        let State::Waiting(waiting) = std::mem::take(&mut self.state) else { return Step::Read };
        let Waiting { pending, reply } = *waiting;
        match publish::try_publish(pending, context) {
            Outcome::Answer(response) => self.answer(&response, reply, context, out),
            Outcome::Wait(pending) => {
                self.state = State::Waiting(Box::new(Waiting { pending, reply }));
                Step::Wait
            }
            Outcome::Subscribe(_) => Step::Close,
        }
    }

    /// Patience is over: answers the request that could not be completed, and what is next.
    pub fn time_out(&mut self, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        match std::mem::take(&mut self.state) {
            State::Head if !self.has_begun => Step::Close,
            State::Head => {
                let problem = Problem::new(408, "the request head did not come in time; send it at once");
                refuse(problem, context, out)
            }
            State::Body(receiving) => {
                let problem = Problem::new(408, "the request body stood still for too long; send it without pauses");
                self.answer(&problem.into(), closing(receiving.reply), context, out)
            }
            State::Waiting(waiting) => self.answer(&publish::no_room().into(), waiting.reply, context, out),
        }
    }

    /// Whether a request was answered since the last call.
    pub fn take_turned(&mut self) -> bool {
        std::mem::take(&mut self.has_turned)
    }

    /// What the connection's peer is being waited for.
    pub fn patience(&self) -> Patience {
        match (&self.state, self.has_begun, self.is_used) {
            (State::Waiting(_), ..) => Patience::Room,
            (State::Body(_), ..) => Patience::Body,
            (State::Head, true, _) => Patience::Head,
            (State::Head, false, false) => Patience::First,
            (State::Head, false, true) => Patience::Next,
        }
    }
}

fn closing(reply: Reply) -> Reply {
    Reply { keep_alive: false, ..reply }
}

/// Answers a head that can't be trusted; nothing after it can be, either.
fn refuse(problem: Problem, context: Context<'_>, out: &mut Vec<u8>) -> Step {
    Reply::to_unreadable(context.house.origins).write(&problem.into(), context.house, out);
    Step::Close
}
