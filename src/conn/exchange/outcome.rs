//! A request's outcome: a response, a stream, or something to wait for.

use super::{Exchange, State, Step};
use crate::api::subscribe::{self, Opened};
use crate::api::{Body, Context, Deferred, Outcome, Plan};
use crate::http::ResponseParams;

/// The kind of a deferred request.
#[derive(Clone, Copy, Debug)]
pub(super) enum DeferredKind {
    Insert,
    Audit,
}

/// A stream whose position the store was asked for.
#[derive(Debug)]
pub(super) struct LookingUp {
    pub(super) request: subscribe::Request,
    pub(super) params: ResponseParams,
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
                let is_insert = matches!(request, Deferred::Insert(_));
                self.state =
                    State::Deferred(params, if is_insert { DeferredKind::Insert } else { DeferredKind::Audit });
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
            count_response(200, context);
            let params = closing_if_draining(params, context);
            subscribe::head_only(&params, context, out);
            return self.end_request(&params);
        }
        let Some(id) = request.lookup() else { return open(&request, params, context, out) };
        self.state = State::LookingUp(Box::new(LookingUp { request, params }));
        Step::LookUp(id)
    }
}

/// Opens a stream.
pub(super) fn open(
    request: &subscribe::Request,
    params: ResponseParams,
    context: Context<'_>,
    out: &mut Vec<u8>,
) -> Step {
    count_response(200, context);
    match subscribe::open(request, params, context, out) {
        Opened::Joined(stream) => Step::Stream(stream),
        Opened::Ended => Step::Close,
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

/// Counts a response.
pub(super) fn count_response(status: u16, context: Context<'_>) {
    context.service.metrics.worker(context.worker).count_response(status);
}
