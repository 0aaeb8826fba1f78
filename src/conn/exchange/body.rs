//! A request's body: gathered or dropped while it arrives, and refused if it can't be used.

use super::outcome::closing;
use super::{Exchange, State, Step};
use crate::api::{Body, Context, Plan};
use crate::http::body::BodyError;
use crate::http::{Content, Decoder, Problem, ResponseParams};
use crate::metrics::BodyRefusal;

pub(super) const TOO_SLOW: &str = "the request body arrived too slowly; send it without long pauses, and at 1 KiB/s or more on \
                        average after its first 30 s";

/// A request whose body is arriving.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) plan: Plan,
    pub(super) params: ResponseParams,
    pub(super) decoder: Decoder,
    /// What has arrived; `None` if the body is dropped.
    pub(super) content: Option<Content>,
}

impl Exchange {
    /// Decodes a part of a body. Returns how many bytes were consumed.
    pub(super) fn take_body(
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
                let Receiving { plan, params, .. } = receiving;
                (bytes.len(), self.finish(plan, Body::Read(&[]), closing(params), context, out))
            }
            Err(error) => {
                if matches!(error, BodyError::Overload | BodyError::Share) {
                    receiving.plan.note_body_limit(context);
                }
                (bytes.len(), self.refuse_body(error, receiving.params, context, out))
            }
            Ok(taken) if receiving.decoder.is_done() => {
                let Receiving { plan, params, content, .. } = receiving;
                (taken, self.finish(plan, content.map_or(Body::Read(&[]), Body::Gathered), params, context, out))
            }
            Ok(taken) => {
                self.state = State::Body(Box::new(receiving));
                (taken, Step::Read)
            }
        }
    }

    /// Refuses a request whose body can't be used. The connection is closed, because the body's end is unknown or not read.
    pub(super) fn refuse_body(
        &mut self,
        error: BodyError,
        params: ResponseParams,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        if let Some(refusal) = refusal_of(error) {
            count_refusal(refusal, context);
        }
        self.respond(&Problem::from(error).into(), closing(params), context, out)
    }
}

/// Returns what a body error is counted as; `None` for an error in the body's syntax.
fn refusal_of(error: BodyError) -> Option<BodyRefusal> {
    match error {
        BodyError::TooLarge => Some(BodyRefusal::Large),
        BodyError::Overload => Some(BodyRefusal::Memory),
        BodyError::Share => Some(BodyRefusal::Share),
        BodyError::Malformed | BodyError::TooManyExtras => None,
    }
}

/// Counts a refused body.
pub(super) fn count_refusal(refusal: BodyRefusal, context: Context<'_>) {
    context.service.metrics.worker(context.worker).bodies_refused.count(refusal as usize);
}
