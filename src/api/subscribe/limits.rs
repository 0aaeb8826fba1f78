//! What the log says of a stream that is refused because of a limit.

use std::fmt;

use super::{Request, Selection};
use crate::metrics::TurnedAway;
use crate::quota::Limit;

/// The request line for the log, without the query.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selection {
            Selection::Records { .. } => f.write_str("GET /events"),
            Selection::Topics(topics) => {
                f.write_str("GET /subscribe/")?;
                topics
                    .iter()
                    .enumerate()
                    .try_for_each(|(index, topic)| write!(f, "{}{}", if index == 0 { "" } else { "," }, topic.as_str()))
            }
        }
    }
}

/// Returns the limit because of which a stream is refused, if the log is to name it.
pub(super) fn limit_of(why: TurnedAway) -> Option<Limit> {
    match why {
        TurnedAway::Full => Some(Limit::Subscribers),
        TurnedAway::Sub => Some(Limit::SubscribersPerSub),
        TurnedAway::Address => Some(Limit::ConnectionsPerAddress),
        TurnedAway::Topics => Some(Limit::Topics),
        TurnedAway::Names => Some(Limit::RecordNames),
        TurnedAway::Draining | TurnedAway::Unverified | TurnedAway::Engine => None,
    }
}
