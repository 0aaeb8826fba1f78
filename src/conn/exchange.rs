//! One connection's requests and answers, as bytes in and bytes out: a state machine without a
//! socket, fed in whatever pieces the network makes.
//!
//! ```text
//!          head whole        body whole
//!  Head ─────────────► Body ─────────────► answer ──► Head, or the end
//!   │                   │                    │
//!   │ malformed         │ malformed          ├──► Working (a large publish, in slices) ──► answer
//!   │                   │                    ├──► Waiting (no room in the hub) ──► answer
//!   └──► answer, end    └──► answer, end     └──► a stream: the exchange is over
//! ```
//! A head whose token may not be verified yet is not taken: the exchange is `Delayed`, and begins anew with the same bytes.
//!
//! A body that the request's route does not use, or of a request that is refused, is read and dropped before the answer,
//! so that the connection can go on; malformed chunks are then still answered 400. It is not waited for if it is longer
//! than [`MAX_DROPPED_BODY`], comes too slowly, or if the client asks with `Expect: 100-continue` whether to send it: the
//! answer then says `Connection: close`, because a client that is refused may leave the body out or send it, and where the
//! next request would begin can't be known (RFC 9110 section 10.1.1).

#[cfg(test)]
mod tests;

use crate::api::publish::{self, Pending};
use crate::api::subscribe::{self, OpenStream, Opened};
use crate::api::{Body, Context, Delay, Outcome, Plan, StoreRequest, insert, plan};
use crate::conn::connection::TimeoutKind;
use crate::http::body::BodyError;
use crate::http::{Content, Decoder, Head, Parsed, Problem, Response, ResponseParams, head};
use crate::metrics::{BodyRefusal, LimitedVerification};
use crate::store::StoreError;

/// Bytes of an unwanted body that are read and dropped so that the connection can go on.
pub const MAX_DROPPED_BODY: usize = 64 << 10;
const TOO_SLOW: &str = "the request body arrived too slowly; send it without long pauses, and at 1 KiB/s or more on \
                        average after its first 30 s";

/// Where the exchange is between two pieces of bytes.
#[derive(Debug, Default)]
enum State {
    /// Nothing of a request has come, or a part of its head.
    #[default]
    Head,
    /// The head has come, the body not yet whole.
    Body(Box<Receiving>),
    /// Work on a publish goes on in slices.
    Working(Box<Pending>, ResponseParams),
    /// A publish waits for room in the hub.
    Waiting(Box<Pending>, ResponseParams),
    /// The store has been asked.
    AtStore(ResponseParams, Asked),
    /// The store has been asked whether a stream's position exists.
    LookingUp(Box<LookingUp>),
    /// The head has come, and its token waits to be verified. The head is not taken.
    Delayed(Box<Delayed>),
}

#[derive(Debug)]
struct Delayed {
    delay: Delay,
    reply: ResponseParams,
}

#[derive(Debug)]
struct Receiving {
    plan: Plan,
    reply: ResponseParams,
    decoder: Decoder,
    /// None: the body is dropped.
    content: Option<Content>,
}

/// What the store has been asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Insert,
    Audit,
}

#[derive(Debug)]
struct LookingUp {
    request: subscribe::Request,
    reply: ResponseParams,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// More bytes are needed.
    Read,
    /// A request was answered; the next one may follow.
    Answered,
    /// The hub has no room; call [`Exchange::resume`] after a while.
    Wait,
    /// The token may not be verified yet; call [`Exchange::advance`] with the same bytes later.
    Delay,
    /// There is more work to do; call [`Exchange::resume`] when others have had their share.
    Work,
    /// The store is to be asked; call [`Exchange::deliver`] with what it says.
    StoreRequest(StoreRequest),
    /// The store is to be asked whether there is a record with this id; call [`Exchange::open_after_lookup`] with what it says.
    LookUp(u64),
    /// The connection is to become this subscriber's.
    Stream(OpenStream),
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
            State::Head => self.take_head(bytes, true, context, out),
            State::Delayed(_) => self.take_head(bytes, false, context, out),
            State::Body(receiving) => self.take_body(*receiving, bytes, context, out),
            working @ State::Working(..) => {
                self.state = working;
                (0, Step::Work)
            }
            waiting @ (State::Waiting(..) | State::AtStore(..) | State::LookingUp(_)) => {
                self.state = waiting;
                (0, Step::Wait)
            }
        }
    }

    fn take_head(&mut self, bytes: &[u8], is_new: bool, context: Context<'_>, out: &mut Vec<u8>) -> (usize, Step) {
        match head::parse(bytes) {
            Ok(Parsed::Partial) => {
                let blank = head::blank_lines(bytes);
                self.has_begun = blank < bytes.len();
                (blank, Step::Read)
            }
            Ok(Parsed::Complete(head, len)) => {
                self.has_begun = true;
                let reply = ResponseParams {
                    version: head.version,
                    keep_alive: head.keep_alive,
                    head_only: head.method == crate::http::Method::Head,
                    cors: context.house.origins.decide(head.origin),
                };
                // Before it is planned: `/metrics` counts itself.
                context.service.metrics.worker(context.worker).requests.add(is_new.into());
                match plan(&head, context) {
                    Plan::Delay(delay) => {
                        self.state = State::Delayed(Box::new(Delayed { delay, reply }));
                        (0, Step::Delay)
                    }
                    plan => {
                        let (body, step) = self.begin(&head, plan, reply, &bytes[len..], context, out);
                        (len + body, step)
                    }
                }
            }
            Err(problem) => (bytes.len(), refuse(problem, bytes, context, out)),
        }
    }

    /// The head is understood: answers how many bytes of the body were taken, and what is next.
    fn begin(
        &mut self,
        head: &Head<'_>,
        plan: Plan,
        reply: ResponseParams,
        rest: &[u8],
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> (usize, Step) {
        let service = context.service;
        let decoder = match Decoder::new(head.framing, service.settings.max_body) {
            Ok(decoder) => decoder,
            Err(error) => return (0, self.refuse_body(error, reply, context, out)),
        };
        if decoder.is_done() || plan.ends_connection() {
            return (0, self.finish(plan, Body::Read(&[]), reply, context, out));
        }
        if !plan.wants_body() {
            return self.begin_dropping(plan, head, rest, reply, context, out);
        }
        if head.expects_continue && rest.is_empty() {
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if let head::BodyFraming::Length(length) = head.framing
            && let Some(body) = usize::try_from(length).ok().and_then(|length| rest.get(..length))
        {
            return (body.len(), self.finish(plan, Body::Read(body), reply, context, out));
        }
        let content = Some(Content::new(context.body_reservation(plan.holder())));
        self.take_body(Receiving { plan, reply, decoder, content }, rest, context, out)
    }

    /// Drops a short body before the request is answered; answers at once, and closes, if the body is long or expected to be
    /// asked for.
    fn begin_dropping(
        &mut self,
        plan: Plan,
        head: &Head<'_>,
        rest: &[u8],
        reply: ResponseParams,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> (usize, Step) {
        match Decoder::new(head.framing, MAX_DROPPED_BODY) {
            Ok(decoder) if !head.expects_continue => {
                self.take_body(Receiving { plan, reply, decoder, content: None }, rest, context, out)
            }
            _ => (0, self.finish(plan, Body::Read(&[]), closing(reply), context, out)),
        }
    }

    fn take_body(
        &mut self,
        mut receiving: Receiving,
        bytes: &[u8],
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> (usize, Step) {
        let Receiving { decoder, content, .. } = &mut receiving;
        let taken = decoder.decode(bytes, |run| content.as_mut().map_or(Ok(()), |content| content.extend(run)));
        match taken {
            Err(BodyError::TooLarge) if receiving.content.is_none() => {
                let Receiving { plan, reply, .. } = receiving;
                (bytes.len(), self.finish(plan, Body::Read(&[]), closing(reply), context, out))
            }
            Err(error) => (bytes.len(), self.refuse_body(error, receiving.reply, context, out)),
            Ok(taken) if receiving.decoder.is_done() => {
                let Receiving { plan, reply, content, .. } = receiving;
                (taken, self.finish(plan, content.map_or(Body::Read(&[]), Body::Gathered), reply, context, out))
            }
            Ok(taken) => {
                self.state = State::Body(Box::new(receiving));
                (taken, Step::Read)
            }
        }
    }

    /// Answers a body that can't be taken. Where it ends is not known, or it is not read that far.
    fn refuse_body(
        &mut self,
        error: BodyError,
        reply: ResponseParams,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        if let Some(refusal) = refusal_of(error) {
            count_body_refusal(refusal, context);
        }
        self.answer(&Problem::from(error).into(), closing(reply), context, out)
    }

    fn finish(
        &mut self,
        plan: Plan,
        body: Body<'_>,
        reply: ResponseParams,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        match plan.finish(body, context) {
            Outcome::Respond(response) => self.answer(&response, reply, context, out),
            Outcome::Subscribe(request) => self.subscribe(request, reply, context, out),
            Outcome::StoreRequest(errand) => {
                let asked = if matches!(errand, StoreRequest::Insert(_)) { Asked::Insert } else { Asked::Audit };
                self.state = State::AtStore(reply, asked);
                Step::StoreRequest(errand)
            }
            Outcome::Wait(pending) => self.wait(pending, reply),
            Outcome::Work(pending) => self.work(pending, reply),
        }
    }

    fn subscribe(
        &mut self,
        request: subscribe::Request,
        reply: ResponseParams,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        if reply.head_only {
            note_response(200, context);
            let reply = last_if_draining(reply, context);
            subscribe::head_only(&reply, context, out);
            return self.answered(&reply);
        }
        let Some(id) = request.lookup() else { return open(&request, reply, context, out) };
        self.state = State::LookingUp(Box::new(LookingUp { request, reply }));
        Step::LookUp(id)
    }

    /// Opens the stream now that the store has said whether its position exists.
    pub fn open_after_lookup(&mut self, exists: bool, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        match std::mem::take(&mut self.state) {
            State::LookingUp(looking_up) => {
                let LookingUp { request, reply } = *looking_up;
                open(&request.settle(exists), reply, context, out)
            }
            state => {
                self.state = state;
                Step::Read
            }
        }
    }

    fn wait(&mut self, pending: Box<Pending>, reply: ResponseParams) -> Step {
        self.state = State::Waiting(pending, reply);
        Step::Wait
    }

    fn work(&mut self, pending: Box<Pending>, reply: ResponseParams) -> Step {
        self.state = State::Working(pending, reply);
        Step::Work
    }

    fn answer(&mut self, response: &Response, reply: ResponseParams, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        let reply = if response.closes { closing(reply) } else { last_if_draining(reply, context) };
        note_response(response.status, context);
        reply.write(response, context.house, out);
        self.answered(&reply)
    }

    fn answered(&mut self, reply: &ResponseParams) -> Step {
        self.has_begun = false;
        self.is_used = true;
        self.has_turned = true;
        if reply.keep_alive { Step::Answered } else { Step::Close }
    }

    /// Goes on with a publish that had to wait, or that is too much work to be done at once.
    pub fn resume(&mut self, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        let (pending, reply) = match std::mem::take(&mut self.state) {
            State::Working(pending, reply) | State::Waiting(pending, reply) => (pending, reply),
            state => {
                self.state = state;
                return Step::Read;
            }
        };
        match publish::resume(*pending, context) {
            Outcome::Respond(response) => self.answer(&response, reply, context, out),
            Outcome::Wait(pending) => self.wait(pending, reply),
            Outcome::Work(pending) => self.work(pending, reply),
            Outcome::Subscribe(_) | Outcome::StoreRequest(_) => Step::Close,
        }
    }

    /// The store has answered.
    pub fn deliver(&mut self, response: &Response, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        match std::mem::take(&mut self.state) {
            State::AtStore(reply, _) => self.answer(response, reply, context, out),
            state => {
                self.state = state;
                Step::Read
            }
        }
    }

    /// TimeoutKind is over: answers the request that could not be completed, and what is next.
    pub fn time_out(&mut self, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        match std::mem::take(&mut self.state) {
            State::Head if !self.has_begun => Step::Close,
            State::Head => {
                let problem = Problem::new(408, "the request head did not come in time; send it at once");
                refuse(problem, &[], context, out)
            }
            State::Body(receiving) if receiving.content.is_none() => {
                let Receiving { plan, reply, .. } = *receiving;
                self.finish(plan, Body::Read(&[]), closing(reply), context, out)
            }
            State::Body(receiving) => {
                count_body_refusal(BodyRefusal::Slow, context);
                let problem = Problem::new(408, TOO_SLOW);
                self.answer(&problem.into(), closing(receiving.reply), context, out)
            }
            State::AtStore(reply, Asked::Insert) => {
                self.answer(&insert::no_answer(context).into(), closing(reply), context, out)
            }
            State::AtStore(reply, Asked::Audit) => {
                self.answer(&insert::refusal(StoreError::Busy).into(), closing(reply), context, out)
            }
            // A stream is never refused for that: the position is in doubt.
            State::LookingUp(looking_up) => open(&looking_up.request.settle(false), looking_up.reply, context, out),
            State::Working(_, reply) | State::Waiting(_, reply) => {
                self.answer(&publish::no_room(context).into(), reply, context, out)
            }
            State::Delayed(delayed) => self.refuse_unverified(*delayed, context, out),
        }
    }

    fn refuse_unverified(&mut self, delayed: Delayed, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        let Delayed { delay, reply } = delayed;
        let metrics = context.service.metrics.worker(context.worker);
        metrics.limited_verifications.count(LimitedVerification::Refused as usize);
        if !delay.opens_stream {
            return self.answer(&delay.problem.into(), reply, context, out);
        }
        note_response(200, context);
        subscribe::turn_away_unverified(reply, context, out);
        Step::Close
    }

    /// Returns whether a request was answered since [`Exchange::take_turned`] was last called.
    pub fn has_turned(&self) -> bool {
        self.has_turned
    }

    /// Whether a request was answered since the last call.
    pub fn take_turned(&mut self) -> bool {
        std::mem::take(&mut self.has_turned)
    }

    /// What the connection's peer is being waited for.
    pub fn patience(&self) -> TimeoutKind {
        match (&self.state, self.has_begun, self.is_used) {
            (State::Working(..), ..) => TimeoutKind::Work,
            (State::Waiting(..), ..) => TimeoutKind::Room,
            (State::AtStore(..), ..) => TimeoutKind::Store,
            (State::Body(receiving), ..) if receiving.content.is_none() => TimeoutKind::Drop,
            (State::LookingUp(_), ..) => TimeoutKind::Lookup,
            (State::Delayed(_), ..) => TimeoutKind::Verification,
            (State::Body(_), ..) => TimeoutKind::Body,
            (State::Head, true, _) => TimeoutKind::Head,
            (State::Head, false, false) => TimeoutKind::First,
            (State::Head, false, true) => TimeoutKind::Next,
        }
    }
}

fn open(request: &subscribe::Request, reply: ResponseParams, context: Context<'_>, out: &mut Vec<u8>) -> Step {
    note_response(200, context);
    match subscribe::open(request, reply, context, out) {
        Opened::Joined(entry) => Step::Stream(entry),
        Opened::Ended => Step::Close,
    }
}

fn closing(reply: ResponseParams) -> ResponseParams {
    ResponseParams { keep_alive: false, ..reply }
}

/// Looked at when the answer is written: the drain may have begun while the body was coming.
fn last_if_draining(reply: ResponseParams, context: Context<'_>) -> ResponseParams {
    if context.service.is_draining() { closing(reply) } else { reply }
}

/// Returns what a body error counts as, unless it is about the body's form.
fn refusal_of(error: BodyError) -> Option<BodyRefusal> {
    match error {
        BodyError::TooLarge => Some(BodyRefusal::Large),
        BodyError::Overload => Some(BodyRefusal::Memory),
        BodyError::Share => Some(BodyRefusal::Share),
        BodyError::Malformed | BodyError::TooManyExtras => None,
    }
}

fn count_body_refusal(refusal: BodyRefusal, context: Context<'_>) {
    context.service.metrics.worker(context.worker).bodies_refused.count(refusal as usize);
}

fn note_response(status: u16, context: Context<'_>) {
    context.service.metrics.worker(context.worker).count_response(status);
}

/// Answers a head that can't be trusted, as far as it was read; nothing after it can be trusted, either.
fn refuse(problem: Problem, bytes: &[u8], context: Context<'_>, out: &mut Vec<u8>) -> Step {
    let cors = context.house.origins.decide(head::origin_of_refused(bytes));
    context.log_refusal(&problem);
    note_response(problem.status, context);
    ResponseParams::to_unreadable(cors, head::is_refused_head_request(bytes)).write(
        &problem.into(),
        context.house,
        out,
    );
    Step::Close
}
