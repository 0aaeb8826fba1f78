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

use super::connection::Patience;
use crate::api::publish::{self, Pending};
use crate::api::subscribe::{self, Entry, Opened};
use crate::api::{Body, Context, Delay, Errand, Outcome, Plan, insert, plan};
use crate::http::{Content, Decoder, Head, Parsed, Problem, Reply, Response, head};
use crate::metrics::LimitedVerification;

/// Where the exchange is between two pieces of bytes.
#[derive(Debug, Default)]
enum State {
    /// Nothing of a request has come, or a part of its head.
    #[default]
    Head,
    /// The head has come, the body not yet whole.
    Body(Box<Receiving>),
    /// Work on a publish goes on in slices.
    Working(Box<Pending>, Reply),
    /// A publish waits for room in the hub.
    Waiting(Box<Pending>, Reply),
    /// The store has been asked.
    AtStore(Reply),
    /// The store has been asked whether a stream's position exists.
    LookingUp(Box<LookingUp>),
    /// The head has come, and its token waits to be verified. The head is not taken.
    Delayed(Box<Delayed>),
}

#[derive(Debug)]
struct Delayed {
    delay: Delay,
    reply: Reply,
}

#[derive(Debug)]
struct Receiving {
    plan: Plan,
    reply: Reply,
    decoder: Decoder,
    content: Content,
}

#[derive(Debug)]
struct LookingUp {
    request: subscribe::Request,
    reply: Reply,
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
    Errand(Errand),
    /// The store is to be asked whether there is a record with this id; call [`Exchange::open_after_lookup`] with what it says.
    LookUp(u64),
    /// The connection is to become this subscriber's.
    Stream(Entry),
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
            waiting @ (State::Waiting(..) | State::AtStore(_) | State::LookingUp(_)) => {
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
                let reply = Reply {
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
        reply: Reply,
        rest: &[u8],
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> (usize, Step) {
        let service = context.service;
        let decoder = match Decoder::new(head.framing, service.settings.max_body) {
            Ok(decoder) => decoder,
            Err(error) => return (0, self.answer(&Problem::from(error).into(), closing(reply), context, out)),
        };
        if decoder.is_done() {
            return (0, self.finish(plan, Body::Read(&[]), reply, context, out));
        }
        // Nobody waits for the body of a request that is refused anyway.
        if let Plan::Refuse(problem) = plan {
            return (0, self.answer(&problem.into(), closing(reply), context, out));
        }
        if head.expects_continue && rest.is_empty() {
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if let head::BodyFraming::Length(length) = head.framing
            && let Some(body) = usize::try_from(length).ok().and_then(|length| rest.get(..length))
        {
            return (body.len(), self.finish(plan, Body::Read(body), reply, context, out));
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
                (taken, self.finish(plan, Body::Gathered(content), reply, context, out))
            }
            Ok(taken) => {
                self.state = State::Body(Box::new(receiving));
                (taken, Step::Read)
            }
        }
    }

    fn finish(&mut self, plan: Plan, body: Body<'_>, reply: Reply, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        match plan.finish(body, context) {
            Outcome::Answer(response) => self.answer(&response, reply, context, out),
            Outcome::Subscribe(request) => self.subscribe(request, reply, context, out),
            Outcome::Errand(errand) => {
                self.state = State::AtStore(reply);
                Step::Errand(errand)
            }
            Outcome::Wait(pending) => self.wait(pending, reply),
            Outcome::Work(pending) => self.work(pending, reply),
        }
    }

    fn subscribe(
        &mut self,
        request: subscribe::Request,
        reply: Reply,
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

    fn wait(&mut self, pending: Box<Pending>, reply: Reply) -> Step {
        self.state = State::Waiting(pending, reply);
        Step::Wait
    }

    fn work(&mut self, pending: Box<Pending>, reply: Reply) -> Step {
        self.state = State::Working(pending, reply);
        Step::Work
    }

    fn answer(&mut self, response: &Response, reply: Reply, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        let reply = if response.closes { closing(reply) } else { last_if_draining(reply, context) };
        note_response(response.status, context);
        reply.write(response, context.house, out);
        self.answered(&reply)
    }

    fn answered(&mut self, reply: &Reply) -> Step {
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
            Outcome::Answer(response) => self.answer(&response, reply, context, out),
            Outcome::Wait(pending) => self.wait(pending, reply),
            Outcome::Work(pending) => self.work(pending, reply),
            Outcome::Subscribe(_) | Outcome::Errand(_) => Step::Close,
        }
    }

    /// The store has answered.
    pub fn deliver(&mut self, response: &Response, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        match std::mem::take(&mut self.state) {
            State::AtStore(reply) => self.answer(response, reply, context, out),
            state => {
                self.state = state;
                Step::Read
            }
        }
    }

    /// Patience is over: answers the request that could not be completed, and what is next.
    pub fn time_out(&mut self, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        match std::mem::take(&mut self.state) {
            State::Head if !self.has_begun => Step::Close,
            State::Head => {
                let problem = Problem::new(408, "the request head did not come in time; send it at once");
                refuse(problem, &[], context, out)
            }
            State::Body(receiving) => {
                let problem = Problem::new(408, "the request body stood still for too long; send it without pauses");
                self.answer(&problem.into(), closing(receiving.reply), context, out)
            }
            State::AtStore(reply) => self.answer(&insert::no_answer(context).into(), closing(reply), context, out),
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

    /// Whether a request was answered since the last call.
    pub fn take_turned(&mut self) -> bool {
        std::mem::take(&mut self.has_turned)
    }

    /// What the connection's peer is being waited for.
    pub fn patience(&self) -> Patience {
        match (&self.state, self.has_begun, self.is_used) {
            (State::Working(..), ..) => Patience::Work,
            (State::Waiting(..), ..) => Patience::Room,
            (State::AtStore(_), ..) => Patience::Store,
            (State::LookingUp(_), ..) => Patience::Lookup,
            (State::Delayed(_), ..) => Patience::Verification,
            (State::Body(_), ..) => Patience::Body,
            (State::Head, true, _) => Patience::Head,
            (State::Head, false, false) => Patience::First,
            (State::Head, false, true) => Patience::Next,
        }
    }
}

fn open(request: &subscribe::Request, reply: Reply, context: Context<'_>, out: &mut Vec<u8>) -> Step {
    note_response(200, context);
    match subscribe::open(request, reply, context, out) {
        Opened::Joined(entry) => Step::Stream(entry),
        Opened::Ended => Step::Close,
    }
}

fn closing(reply: Reply) -> Reply {
    Reply { keep_alive: false, ..reply }
}

/// Looked at when the answer is written: the drain may have begun while the body was coming.
fn last_if_draining(reply: Reply, context: Context<'_>) -> Reply {
    if context.service.is_draining() { closing(reply) } else { reply }
}

fn note_response(status: u16, context: Context<'_>) {
    context.service.metrics.worker(context.worker).count_response(status);
}

/// Answers a head that can't be trusted, as far as it was read; nothing after it can be trusted, either.
fn refuse(problem: Problem, bytes: &[u8], context: Context<'_>, out: &mut Vec<u8>) -> Step {
    let cors = context.house.origins.decide(head::origin_of_refused(bytes));
    context.log_refusal(&problem);
    note_response(problem.status, context);
    Reply::to_unreadable(cors, head::is_refused_head_request(bytes)).write(&problem.into(), context.house, out);
    Step::Close
}

#[cfg(test)]
mod tests {
    mod lookups;

    use super::*;
    use crate::api::{Scope, Service};
    use crate::auth::{Auth, Verified};
    use crate::clock::Now;
    use crate::config::Config;
    use crate::fuzz::service::NoOrder;
    use crate::http::response::House;
    use crate::hub::{Hub, HubLimits, inbox};
    use crate::metrics::{Metrics, PublishRefusal};
    use crate::store::{Place, Store};
    use std::cell::RefCell;
    use std::sync::Arc;

    fn service() -> Service {
        service_from(1)
    }

    fn service_from(first_id: u64) -> Service {
        let limits = HubLimits {
            events_per_topic: 1000,
            age_micros: 1 << 40,
            bytes: 1 << 20,
            topics: 100,
            subscribers: 100,
            latest_bytes: usize::MAX,
        };
        let (outbox, _) = inbox(Box::new(|| {}));
        let settings = Config::new().no_auth(true).port(0).threads(1).max_body(100).settle(1000).unwrap();
        let store = Store::open(&Place::Memory).unwrap().start(Box::new(NoOrder)).unwrap();
        let hub = Arc::new(Hub::new(limits, vec![outbox], first_id));
        Service::new(hub, store, settings, Auth::Open, Metrics::new(1, 0))
    }

    fn context<'a>(service: &'a Service, verified: &'a RefCell<Verified>) -> Context<'a> {
        let house = House { date: "now", origins: &service.settings.origins };
        Context {
            service,
            scope: Scope::All,
            address: None,
            house,
            now: Now { id_micros: 50, unix_millis: 0, millis: 1 },
            worker: 0,
            verified,
        }
    }

    /// Feeds bytes in pieces that end at `cuts`; what was written, and the last step.
    fn converse(bytes: &[u8], cuts: &[usize]) -> (String, Step) {
        let service = service();
        let verified = RefCell::default();
        let context = context(&service, &verified);
        let (mut exchange, mut out, mut begin, mut last) = (Exchange::default(), Vec::new(), 0, Step::Read);
        for &end in cuts.iter().chain([&bytes.len()]) {
            loop {
                let (taken, step) = exchange.advance(&bytes[begin..end], context, &mut out);
                begin += taken;
                last = step;
                if !matches!(last, Step::Answered) || begin == end {
                    break;
                }
            }
            if !matches!(last, Step::Read | Step::Answered) {
                break;
            }
        }
        (String::from_utf8(out).unwrap(), last)
    }

    #[test]
    fn answers_do_not_depend_on_the_pieces() {
        let requests = b"GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
            POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata: x\
            POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n3;x\r\n: y\r\n0\r\nA: b\r\n\r\n\
            HEAD /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n\
            DELETE /stats HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\n";
        let (whole, _) = converse(requests, &[]);
        let statuses: Vec<_> = whole.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, ["200", "200", "200", "200", "405"]);
        for cut in 0..requests.len() {
            for next in [cut, cut + 1, cut + 7] {
                let (text, last) = converse(requests, &[cut, next.min(requests.len())]);
                assert_eq!(text, whole, "{cut} {next}");
                assert!(matches!(last, Step::Close));
            }
        }
    }

    #[test]
    fn a_stream_ends_the_exchange_after_its_opening() {
        let (text, last) = converse(b"GET /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\n", &[]);
        assert!(matches!(last, Step::Stream(..)));
        assert!(text.ends_with("\n\r\n") && text.contains("\r\n\r\ne\r\n:\nretry: "), "{text}");
    }

    #[test]
    fn an_expectation_is_met_only_if_the_body_is_wanted() {
        let head = |target: &str, length| {
            let text = format!(
                "POST {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
            );
            converse(text.as_bytes(), &[])
        };
        let (text, last) = head("/publish/topicone1", 7);
        assert_eq!(text, "HTTP/1.1 100 Continue\r\n\r\n");
        assert!(matches!(last, Step::Read));
        for (target, length, status) in
            [("/publish/topicone1", 101, "413"), ("/nowhere", 7, "404"), ("/publish/x", 7, "400")]
        {
            let (text, last) = head(target, length);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains("Connection: close"), "{text}");
            assert!(matches!(last, Step::Close));
        }
    }

    #[test]
    fn what_waits_for_room_is_bounded_as_what_is_received() {
        // Its ids are so far ahead of the clock that every publish has to wait.
        let service = service_from(1_000_000);
        let verified = RefCell::default();
        let context = context(&service, &verified);
        let publish = |exchange: &mut Exchange, out: &mut Vec<u8>| {
            let text = b"POST /publish/topicfull1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata: x";
            exchange.advance(text, context, out).1
        };
        let (mut waiting, mut refused, mut out) = (Exchange::default(), Exchange::default(), Vec::new());
        assert!(matches!(publish(&mut waiting, &mut out), Step::Wait));
        let mut body = service.bodies.content();
        body.extend(&vec![0; crate::http::body::MAX_BODIES_BYTES - 300]).unwrap();
        assert!(matches!(publish(&mut refused, &mut out), Step::Answered));
        assert!(out.starts_with(b"HTTP/1.1 503 "));
        let (room, metrics) = (PublishRefusal::Room as usize, service.metrics.worker(0));
        assert_eq!((metrics.publishes_refused.get(room), metrics.responses.sum()), (1, 1));
        drop(waiting);
        assert!(matches!(publish(&mut refused, &mut out), Step::Wait));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            converse(&bytes, &[]);
            converse(&[b"POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", &bytes[..]].concat(), &[]);
        }
    }
}
