//! Maps request targets to routes, and decides on which listeners a route is served.

use std::borrow::Cow;

use crate::http::Problem;
use crate::http::target::Target;
use crate::hub::TopicName;
use crate::net::ListenerRole;

/// A route, with the decoded parameter from its path.
pub(super) enum Route<'a> {
    Console,
    Publish(Cow<'a, str>),
    Subscribe(Cow<'a, str>),
    Events,
    Insert,
    Revoke,
    /// The record's name, if it is in the path.
    Audit(Option<Cow<'a, str>>),
    Stats,
    Metrics,
    /// A topic's name, if it is in the path.
    Topics(Option<Cow<'a, str>>),
    Health,
    Liveness,
}

/// Which of the routes are served that a broker can do without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    pub(super) console: bool,
    /// The routes of records.
    pub(super) records: bool,
}

/// The detail of a 404 for a route of records.
const NO_RECORDS: &str = "this broker was built without records; publish with POST /publish/{topic}";

impl<'a> Route<'a> {
    /// Returns the route of a target. Returns 404 if it doesn't exist, or isn't served on listeners of this role.
    pub(super) fn parse(target: &Target<'a>, role: ListenerRole, served: Served) -> Result<Self, Problem> {
        let is_served = |route: &Self| route.is_in(role) && (served.console || !matches!(route, Self::Console));
        match Self::find(target)?.filter(is_served) {
            Some(Self::Insert | Self::Events | Self::Audit(_)) if !served.records => {
                return Err(Problem::new(404, NO_RECORDS));
            }
            Some(route) => return Ok(route),
            None => {}
        }
        let shorter = target.path.trim_end_matches('/');
        let without_slash = Target { path: if shorter.is_empty() { "/" } else { shorter }, ..*target };
        let is_found =
            shorter.len() < target.path.len() && Self::find(&without_slash)?.is_some_and(|route| is_served(&route));
        Err(Problem::new(
            404,
            if is_found { trailing_slash(shorter) } else { role.not_found_detail(target.path).into() },
        ))
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
            ("revoke", None, None) => Some(Self::Revoke),
            ("audit", ..) => Some(Self::Audit(target.after_first_segment().transpose()?)),
            ("stats", None, None) => Some(Self::Stats),
            ("metrics", None, None) => Some(Self::Metrics),
            ("topics", None, None) => Some(Self::Topics(None)),
            // Without a name, the slash is one too many.
            ("topics", Some(topic), None) if !topic.is_empty() => Some(Self::Topics(Some(topic))),
            ("healthz", None, None) => Some(Self::Health),
            ("livez", None, None) => Some(Self::Liveness),
            _ => None,
        })
    }

    /// Returns whether the route is served on listeners of this role.
    fn is_in(&self, role: ListenerRole) -> bool {
        let is_administration =
            matches!(self, Self::Stats | Self::Metrics | Self::Topics(_) | Self::Health | Self::Liveness);
        match role {
            ListenerRole::All => true,
            ListenerRole::Public => !is_administration,
            ListenerRole::Administration => is_administration,
        }
    }

    /// Returns the detail of a 405: what to do instead.
    pub(super) fn wrong_method_detail(&self) -> Cow<'static, str> {
        match self {
            Self::Publish(topic) => format!(
                "/publish accepts only POST; publish with POST /publish/{0}, subscribe with GET /subscribe/{0}",
                topic_or_placeholder(topic)
            )
            .into(),
            Self::Subscribe(topics) => {
                format!("/subscribe accepts only GET; publish with POST /publish/{}", topic_or_placeholder(topics))
                    .into()
            }
            Self::Insert => {
                "/insert accepts only POST; store a record with POST /insert, read records with GET /events or GET \
                 /audit/{event}"
                    .into()
            }
            Self::Revoke => {
                "/revoke accepts only POST; revoke tokens with POST /revoke {\"sub\":…} or {\"jti\":…}".into()
            }
            Self::Events => "/events accepts only GET; store a record with POST /insert".into(),
            Self::Audit(_) => {
                "/audit accepts only GET and DELETE; read versions with GET, erase them with DELETE, store a new one with POST \
                 /insert"
                    .into()
            }
            Self::Console => "/ (the console) accepts only GET; publish with POST /publish/{topic}".into(),
            Self::Stats => "/stats accepts only GET".into(),
            Self::Metrics => "/metrics accepts only GET".into(),
            Self::Topics(topic) => format!(
                "/topics accepts only GET; publish with POST /publish/{}",
                topic_or_placeholder(topic.as_deref().unwrap_or_default())
            )
            .into(),
            Self::Health => "/healthz accepts only GET".into(),
            Self::Liveness => "/livez accepts only GET".into(),
        }
    }

    /// Returns the methods that the route allows.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Self::Publish(_) | Self::Insert | Self::Revoke => "POST, OPTIONS",
            Self::Audit(_) => "GET, HEAD, DELETE, OPTIONS",
            Self::Console
            | Self::Subscribe(_)
            | Self::Events
            | Self::Stats
            | Self::Metrics
            | Self::Topics(_)
            | Self::Health
            | Self::Liveness => "GET, HEAD, OPTIONS",
        }
    }
}

fn trailing_slash(path: &str) -> Cow<'static, str> {
    let right = if path.is_empty() { "/" } else { path };
    format!("the path has a trailing slash; request {right}").into()
}

/// Returns a topic for use in a path, or a placeholder if it is invalid.
fn topic_or_placeholder(topic: &str) -> Cow<'static, str> {
    TopicName::parse(topic).map_or("{topic}".into(), |topic| topic.as_str().to_owned().into())
}

impl ListenerRole {
    /// Returns the detail of a 404: which paths are served.
    fn not_found_detail(self, path: &str) -> &'static str {
        match (self, path) {
            (Self::All | Self::Public, "/publish") => "the topic is missing; publish with POST /publish/{topic}",
            (Self::All | Self::Public, "/subscribe") => "the topic is missing; subscribe with GET /subscribe/{topic}",
            _ => self.list_routes(),
        }
    }

    fn list_routes(self) -> &'static str {
        match self {
            Self::All => {
                "no such route; the routes are POST /publish/{topic}, GET /subscribe/{topic}, POST /insert, GET \
                 /events, GET and DELETE /audit/{event} (or /audit?event=), POST /revoke, GET /stats, GET /metrics, GET /topics, GET \
                 /topics/{topic}, GET /healthz and GET /livez"
            }
            Self::Public => {
                "no such route; the routes are POST /publish/{topic}, GET /subscribe/{topic}, POST /insert, GET \
                 /events, GET and DELETE /audit/{event} (or /audit?event=) and POST /revoke; statistics and health checks are served at the \
                 --admin address"
            }
            Self::Administration => {
                "no such route; the routes are GET /stats, GET /metrics, GET /topics, GET /topics/{topic}, GET \
                 /healthz and GET /livez"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Served = Served { console: true, records: true };

    fn detail(path: &str, role: ListenerRole) -> String {
        match Route::parse(&Target::parse(path).unwrap(), role, ALL) {
            Ok(route) => panic!("{path} is served: {}", route.allow()),
            Err(problem) => {
                assert_eq!(problem.status, 404);
                problem.detail.into_owned()
            }
        }
    }

    #[test]
    fn a_404_names_a_trailing_slash() {
        for (path, right) in [
            ("/publish/Greeting/", "/publish/Greeting"),
            ("/publish/greet%69ng//", "/publish/greet%69ng"),
            ("/subscribe/topicone1/?x=/", "/subscribe/topicone1"),
            ("/events/", "/events"),
            ("/stats/", "/stats"),
            ("/topics/", "/topics"),
            ("/topics/topicone1/", "/topics/topicone1"),
            ("//", "/"),
        ] {
            let detail = detail(path, ListenerRole::All);
            assert!(detail.contains("slash") && detail.ends_with(&format!("request {right}")), "{path}: {detail}");
        }
        assert!(!detail("/nowhere/", ListenerRole::All).contains("slash"));
        assert!(!detail("/stats/", ListenerRole::Public).contains("slash"), "it is served elsewhere");
    }

    #[test]
    fn a_404_names_a_missing_topic() {
        for path in ["/publish", "/subscribe"] {
            assert!(detail(path, ListenerRole::All).starts_with("the topic is missing"), "{path}");
            assert!(detail(path, ListenerRole::Administration).starts_with("no such route"), "{path}");
        }
    }

    #[test]
    fn without_records_their_routes_are_not_found() {
        let without = Served { records: false, ..ALL };
        let parse = |path| Route::parse(&Target::parse(path).unwrap(), ListenerRole::All, without);
        for path in ["/insert", "/events?event=user", "/audit/user", "/audit?event=user"] {
            let Err(problem) = parse(path) else { panic!("{path} is served") };
            assert!(problem.status == 404 && problem.detail.contains("without records"), "{path}: {}", problem.detail);
        }
        assert!(parse("/publish/topicone1").is_ok() && parse("/subscribe/topicone1").is_ok());
    }
}
