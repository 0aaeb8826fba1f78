//! The guide: everything that operators and authors of clients need to know beyond the README. Each page is a Markdown file
//! in `src/guide/`. The tests run all examples (`tests/contract/docs/`).
//!
//! | page | |
//! |---|---|
//! | [`publishing`] | request bodies, retries, and publishers in JavaScript, Python and PHP |
//! | [`resume`] | positions, publishers' ids, `gap`, what a client must do; clients in JavaScript and Python |
//! | [`history`] | how many events to retain: count, age and bytes |
//! | [`records`] | permanently stored events, and when to use them instead of topics |
//! | [`tokens`] | who may publish and subscribe: keys, claims, cookies, signing in four languages, key rotation |
//! | [`providers`] | tokens of Keycloak, Auth0 and Cognito |
//! | [`proxies`] | running behind nginx, Caddy, HAProxy and others |
//! | [`more_proxies`] | Apache, lighttpd, Varnish, h2o, Squid, Traffic Server, Envoy and Traefik |
//! | [`sizing`] | memory, descriptors, kernel settings, threads |
//! | [`options`] | every option, its default and its meaning |
//! | [`brokers`] | several brokers with the same topics: Redis or Valkey, load balancers, failover |
//! | [`deploying`] | packages, containers, settings, the log, health checks and metrics, security |
//! | [`backup`] | copying, checking, exporting and restoring records |
//! | [`upgrading`] | what a restart means for streams, positions and publishers |
//! | [`library`] | embedding the broker in a Rust program |
//! | [`faq`] | frequently asked questions |
//! | [`comparison`] | what other servers do better, and what Esker does not do |

/// The targets of the links between pages. If a link is defined twice, the first definition counts: in rustdoc that is the
/// one here, in the Markdown files the one at the end of the page.
macro_rules! links {
    () => {
        "\
[publishing]: crate::guide::publishing
[resume]: crate::guide::resume
[history]: crate::guide::history
[records]: crate::guide::records
[tokens]: crate::guide::tokens
[providers]: crate::guide::providers
[proxies]: crate::guide::proxies
[more_proxies]: crate::guide::more_proxies
[sizing]: crate::guide::sizing
[options]: crate::guide::options
[brokers]: crate::guide::brokers
[deploying]: crate::guide::deploying
[backup]: crate::guide::backup
[upgrading]: crate::guide::upgrading
[library]: crate::guide::library
[faq]: crate::guide::faq
[comparison]: crate::guide::comparison

"
    };
}

#[doc = links!()]
#[doc = include_str!("publishing.md")]
pub mod publishing {}

#[doc = links!()]
#[doc = include_str!("resume.md")]
pub mod resume {}

#[doc = links!()]
#[doc = include_str!("history.md")]
pub mod history {}

#[doc = links!()]
#[doc = include_str!("records.md")]
pub mod records {}

#[doc = links!()]
#[doc = include_str!("tokens.md")]
pub mod tokens {}

#[doc = links!()]
#[doc = include_str!("providers.md")]
pub mod providers {}

#[doc = links!()]
#[doc = include_str!("proxies.md")]
pub mod proxies {}

#[doc = links!()]
#[doc = include_str!("more_proxies.md")]
pub mod more_proxies {}

#[doc = links!()]
#[doc = include_str!("sizing.md")]
pub mod sizing {}

#[doc = links!()]
#[doc = include_str!("options.md")]
pub mod options {}

#[doc = links!()]
#[doc = include_str!("brokers.md")]
pub mod brokers {}

#[doc = links!()]
#[doc = include_str!("deploying.md")]
pub mod deploying {}

#[doc = links!()]
#[doc = include_str!("backup.md")]
pub mod backup {}

#[doc = links!()]
#[doc = include_str!("upgrading.md")]
pub mod upgrading {}

#[doc = links!()]
#[doc = include_str!("library.md")]
pub mod library {}

#[doc = links!()]
#[doc = include_str!("faq.md")]
pub mod faq {}

#[doc = links!()]
#[doc = include_str!("comparison.md")]
pub mod comparison {}
