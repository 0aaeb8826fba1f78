//! A request's outcome: a response, a stream, or something to wait for.

use super::{Exchange, State, Step};
use crate::api::subscribe::{self, Lookup, LookupReply, Opened};
use crate::api::{Body, Context, Deferred, Outcome, Plan, Service};
use crate::http::ResponseParams;

/// The kind of a deferred request.
#[derive(Clone, Copy, Debug)]
pub(super) enum DeferredKind {
    Publish,
    /// To be stored by the store.
    Insert,
    /// To be stored by the engine.
    EngineInsert,
    Revoke,
    Audit,
    Erase,
}

impl DeferredKind {
    fn of(request: &Deferred, service: &Service) -> Self {
        match request {
            Deferred::Publish(_) => Self::Publish,
            Deferred::Insert(_) if service.engine.is_some() => Self::EngineInsert,
            Deferred::Insert(_) => Self::Insert,
            Deferred::Revoke(_) => Self::Revoke,
            Deferred::Audit(_) => Self::Audit,
            Deferred::Erase(_) => Self::Erase,
        }
    }
}

/// A stream whose position is looked up.
#[derive(Debug)]
pub(super) struct LookingUp {
    request: subscribe::Request,
    lookup: Lookup,
    params: ResponseParams,
}

impl LookingUp {
    /// Opens the stream with the reply to the lookup.
    pub(super) fn open(self, reply: LookupReply, context: Context<'_>, out: &mut Vec<u8>) -> Opened {
        let Self { request, lookup, params } = self;
        subscribe::open_after_lookup(request, lookup, reply, params, context, out)
    }
}

impl Exchange {
    /// Carries out the plan of a request whose body is complete.
    pub(super) fn finish(
        &mut self,
        plan: Plan,
        body: Body<'_>,
        params: ResponseParams,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        self.take_outcome(plan.finish(body, context), params, context, out)
    }

    /// Responds to a request, or notes what it waits for.
    pub(super) fn take_outcome(
        &mut self,
        outcome: Outcome,
        params: ResponseParams,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        match outcome {
            Outcome::Respond(response) => self.respond(&response, params, context, out),
            Outcome::Subscribe(request) => self.subscribe(request, params, context, out),
            Outcome::Deferred(request) => {
                self.state = State::Deferred(params, DeferredKind::of(&request, context.service));
                Step::Defer(request)
            }
            Outcome::Wait(pending) => {
                self.state = State::Waiting(pending, params);
                Step::Wait
            }
            Outcome::Work(pending) => {
                self.state = State::Working(pending, params);
                Step::Work
            }
        }
    }

    fn subscribe(
        &mut self,
        request: subscribe::Request,
        params: ResponseParams,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        if params.head_only {
            self.note_response(200, Some(0), context);
            let params = closing_if_draining(params, context);
            subscribe::head_only(&params, context, out);
            return self.end_request(&params);
        }
        let Some(lookup) = request.lookup(context) else {
            return self.begin_stream(subscribe::open(&request, params, context, out), context);
        };
        self.state = State::LookingUp(Box::new(LookingUp { request, lookup, params }));
        Step::LookUp(lookup)
    }

    /// Counts the response of a stream whose first bytes are written.
    pub(super) fn begin_stream(&mut self, opened: Opened, context: Context<'_>) -> Step {
        self.note_response(200, None, context);
        match opened {
            Opened::Joined(stream) => Step::Stream(stream),
            Opened::Ended => Step::Close,
        }
    }

    /// Counts a response and logs it. `bytes` is the length of its body, if that is known.
    pub(super) fn note_response(&mut self, status: u16, bytes: Option<usize>, context: Context<'_>) {
        context.service.metrics.worker(context.worker).count_response(status);
        if let Some(log) = context.access_log() {
            let line = self.access_line.take().unwrap_or_else(|| context.begin_access_line(log, None));
            (log.write)(line.end(status, bytes, context.now.millis));
        }
    }
}

/// Makes a response the connection's last.
pub(super) fn closing(params: ResponseParams) -> ResponseParams {
    ResponseParams { keep_alive: false, ..params }
}

/// Makes a response the connection's last if the broker drains. To be called when the response is written: the drain may have
/// begun while the body was arriving.
pub(super) fn closing_if_draining(params: ResponseParams, context: Context<'_>) -> ResponseParams {
    if context.service.is_draining() { closing(params) } else { params }
}
