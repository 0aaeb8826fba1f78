//! From a target to what it names, and through which door that is served. Refuses to know what the routes do.

use std::borrow::Cow;

use crate::http::Problem;
use crate::http::target::Target;

/// What is served to those who come through a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// Everything but what is the administration's, which has a door of its own.
    Public,
    /// What is the administration's.
    Administration,
}

/// A path that is served, with its decoded parameter.
pub(super) enum Route<'a> {
    Console,
    Publish(Cow<'a, str>),
    Subscribe(Cow<'a, str>),
    Events,
    Insert,
    /// With a name in the path, or without one.
    Audit(Option<Cow<'a, str>>),
    Stats,
    Metrics,
    Health,
    Liveness,
}

impl<'a> Route<'a> {
    /// What the target names, if it is served there.
    pub(super) fn parse(target: &Target<'a>, scope: Scope, has_console: bool) -> Result<Self, Problem> {
        let is_served = |route: &Self| route.is_in(scope) && (has_console || !matches!(route, Self::Console));
        Self::find(target)?.filter(is_served).ok_or_else(|| Problem::new(404, scope.signpost()))
    }

    fn find(target: &Target<'a>) -> Result<Option<Self>, Problem> {
        let mut segments = target.segments();
        let first = segments.next().transpose()?.unwrap_or_default();
        let second = segments.next().transpose()?;
        Ok(match (first.as_ref(), second, segments.next()) {
            ("", None, None) => Some(Self::Console),
            ("publish", Some(topic), None) => Some(Self::Publish(topic)),
            ("subscribe", Some(topics), None) => Some(Self::Subscribe(topics)),
            ("events", None, None) => Some(Self::Events),
            ("insert", None, None) => Some(Self::Insert),
            ("audit", ..) => Some(Self::Audit(target.after_first_segment().transpose()?)),
            ("stats", None, None) => Some(Self::Stats),
            ("metrics", None, None) => Some(Self::Metrics),
            ("healthz", None, None) => Some(Self::Health),
            ("livez", None, None) => Some(Self::Liveness),
            _ => None,
        })
    }

    fn is_in(&self, scope: Scope) -> bool {
        let is_administration = matches!(self, Self::Stats | Self::Metrics | Self::Health | Self::Liveness);
        match scope {
            Scope::All => true,
            Scope::Public => !is_administration,
            Scope::Administration => is_administration,
        }
    }

    /// The methods it answers to.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Self::Publish(_) | Self::Insert => "POST, OPTIONS",
            Self::Console
            | Self::Subscribe(_)
            | Self::Events
            | Self::Audit(_)
            | Self::Stats
            | Self::Metrics
            | Self::Health
            | Self::Liveness => "GET, HEAD, OPTIONS",
        }
    }
}

impl Scope {
    /// What is here, for whoever asks for something else.
    fn signpost(self) -> &'static str {
        match self {
            Self::All => {
                "nothing is here; there are POST /publish/{topic}, GET /subscribe/{topic}, POST /insert, GET /events, \
                 GET /audit/{event} (or /audit?event=), GET /stats, GET /metrics, GET /healthz and GET /livez"
            }
            Self::Public => {
                "nothing is here; there are POST /publish/{topic}, GET /subscribe/{topic}, POST /insert, GET /events and \
                 GET /audit/{event} (or /audit?event=); statistics and health are at the address of --admin"
            }
            Self::Administration => "nothing is here; there are GET /stats, GET /metrics, GET /healthz and GET /livez",
        }
    }
}
