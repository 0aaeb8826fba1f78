//! A request's head: from bytes to a plan, and refusals that need no body.

use super::body::Receiving;
use super::outcome::closing;
use super::{Exchange, MAX_DROPPED_BODY, State, Step};
use crate::api::{Body, Context, Delay, Plan, plan, subscribe};
use crate::http::access_log::{AccessLine, Summary};
use crate::http::{Content, Decoder, Head, Method, Parsed, Problem, Response, ResponseParams, head};
use crate::metrics::LimitedVerification;

/// A request whose token waits to be verified.
#[derive(Debug)]
pub(super) struct Delayed {
    delay: Delay,
    params: ResponseParams,
}

impl Exchange {
    /// Parses a head. A head that was delayed is not counted again. The context is that of the connection's peer.
    pub(super) fn take_head(
        &mut self,
        bytes: &[u8],
        is_new: bool,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> (usize, Step) {
        self.forwarded_for = None;
        match head::parse(bytes) {
            Ok(Parsed::Partial) => {
                let blank = head::blank_lines(bytes);
                self.has_begun = blank < bytes.len();
                (blank, Step::Read)
            }
            Ok(Parsed::Complete(ref head, len)) => {
                self.has_begun = true;
                self.forwarded_for = context.forwarded_address(&bytes[..len]);
                let context = self.at_client(context);
                if is_new {
                    self.access_line = begin_access_line(head, &bytes[..len], context);
                }
                let params = ResponseParams {
                    version: head.version,
                    keep_alive: head.keep_alive,
                    head_only: head.method == Method::Head,
                    cors: context.headers.origins.decide(head.browser.origin),
                };
                // Before it is planned: `/metrics` includes its own request.
                context.service.metrics.worker(context.worker).requests.add(is_new.into());
                let plan = plan(head, context);
                if let Some(line) = &mut self.access_line {
                    context.token_cache.borrow_mut().take_subject().iter().for_each(|sub| line.add_sub(sub));
                }
                match plan {
                    Plan::Delay(delay) => {
                        self.state = State::Delayed(Box::new(Delayed { delay, params }));
                        (0, Step::Delay)
                    }
                    plan => {
                        let (body, step) = self.begin(head, plan, params, &bytes[len..], context, out);
                        (len + body, step)
                    }
                }
            }
            Err(problem) => (bytes.len(), self.refuse_head(problem, bytes, context, out)),
        }
    }

    /// Begins a request whose head is parsed. Returns how many bytes of the body were consumed.
    fn begin(
        &mut self,
        head: &Head<'_>,
        plan: Plan,
        params: ResponseParams,
        rest: &[u8],
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> (usize, Step) {
        let decoder = match Decoder::new(head.body.framing, context.service.settings.max_body) {
            Ok(decoder) => decoder,
            Err(error) => return (0, self.refuse_body(error, params, context, out)),
        };
        if decoder.is_done() || plan.ends_connection() {
            return (0, self.finish(plan, Body::Read(&[]), params, context, out));
        }
        if !plan.wants_body() {
            return self.begin_dropping(plan, head, rest, params, context, out);
        }
        if head.body.expects_continue && rest.is_empty() {
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if let head::BodyFraming::Length(length) = head.body.framing
            && let Some(body) = usize::try_from(length).ok().and_then(|length| rest.get(..length))
        {
            return (body.len(), self.finish(plan, Body::Read(body), params, context, out));
        }
        let content = Some(Content::new(context.body_reservation(plan.principal())));
        self.take_body(Receiving { plan, params, decoder, content }, rest, context, out)
    }

    /// Drops a short body before the response. Responds at once, and closes the connection, if the body is long or
    /// the client asks whether to send it.
    fn begin_dropping(
        &mut self,
        plan: Plan,
        head: &Head<'_>,
        rest: &[u8],
        params: ResponseParams,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> (usize, Step) {
        match Decoder::new(head.body.framing, MAX_DROPPED_BODY) {
            Ok(decoder) if !head.body.expects_continue => {
                self.take_body(Receiving { plan, params, decoder, content: None }, rest, context, out)
            }
            _ => (0, self.finish(plan, Body::Read(&[]), closing(params), context, out)),
        }
    }

    /// Refuses a request whose token has waited too long to be verified.
    pub(super) fn refuse_unverified(&mut self, delayed: Delayed, context: Context<'_>, out: &mut Vec<u8>) -> Step {
        let Delayed { delay, params } = delayed;
        let metrics = context.service.metrics.worker(context.worker);
        metrics.limited_verifications.count(LimitedVerification::Refused as usize);
        if !delay.opens_stream {
            return self.respond(&delay.problem.into(), params, context, out);
        }
        self.note_response(200, None, context);
        subscribe::turn_away_unverified(params, context, out);
        Step::Close
    }

    /// Refuses a head that can't be parsed, as far as it was read. What follows it can't be parsed either.
    pub(super) fn refuse_head(
        &mut self,
        problem: Problem,
        bytes: &[u8],
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        let cors = context.headers.origins.decide(head::origin_of_refused(bytes));
        context.log_refusal(&problem);
        let params = ResponseParams::for_malformed_head(cors, head::is_refused_head_request(bytes));
        let response = Response::from(problem);
        self.note_response(response.status, Some(params.body_len(&response)), context);
        params.write(&response, context.headers, out);
        Step::Close
    }
}

/// Begins the line of a request in the access log, if there is one. `bytes` is the complete head.
fn begin_access_line(head: &Head<'_>, bytes: &[u8], context: Context<'_>) -> Option<AccessLine> {
    let log = context.access_log()?;
    let summary = Summary {
        method: head::method_of(bytes),
        target: head.target,
        version: head.version,
        user_agent: head::fields_from_last(bytes, "user-agent").next(),
    };
    Some(context.begin_access_line(log, Some(summary)))
}
