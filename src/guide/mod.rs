//! The guide: what an operator or a client's author wants to know beyond the README. Each page is a Markdown file in
//! `src/guide/`, to be read here or there. What its examples show is run by the tests (`tests/contract/docs/`).
//!
//! | page | |
//! |---|---|
//! | [`publishing`] | bodies, retries, and publishers in JavaScript, Python and PHP |
//! | [`resume`] | positions, publishers' ids, `gap`, what a client must do; clients in JavaScript, Python and curl |
//! | [`history`] | how much to retain: count, age and bytes |
//! | [`records`] | events that are stored for good, and when to use them rather than topics |
//! | [`tokens`] | who may publish and listen: keys, claims, cookies, signing in four languages, changing keys |
//! | [`proxies`] | nginx, Caddy and HAProxy in front |
//! | [`sizing`] | memory, descriptors, kernel settings, threads |
//! | [`options`] | every option, its default and its meaning |
//! | [`deploying`] | starting, stopping, settings, what to watch |
//! | [`backup`] | copying, checking, moving and restoring records |
//! | [`upgrading`] | what a restart does to streams, positions and publishers |
//! | [`library`] | embedding the broker in a Rust program |
//! | [`faq`] | why six connections, why is my proxy buffering, and the like |
//! | [`comparison`] | what others do better, and what Esker does not do |

// The first definition of a link counts: here those of links.md, where the files are read those at their own ends.

#[doc = include_str!("links.md")]
#[doc = include_str!("publishing.md")]
pub mod publishing {}

#[doc = include_str!("links.md")]
#[doc = include_str!("resume.md")]
pub mod resume {}

#[doc = include_str!("links.md")]
#[doc = include_str!("history.md")]
pub mod history {}

#[doc = include_str!("links.md")]
#[doc = include_str!("records.md")]
pub mod records {}

#[doc = include_str!("links.md")]
#[doc = include_str!("tokens.md")]
pub mod tokens {}

#[doc = include_str!("links.md")]
#[doc = include_str!("proxies.md")]
pub mod proxies {}

#[doc = include_str!("links.md")]
#[doc = include_str!("sizing.md")]
pub mod sizing {}

#[doc = include_str!("links.md")]
#[doc = include_str!("options.md")]
pub mod options {}

#[doc = include_str!("links.md")]
#[doc = include_str!("deploying.md")]
pub mod deploying {}

#[doc = include_str!("links.md")]
#[doc = include_str!("backup.md")]
pub mod backup {}

#[doc = include_str!("links.md")]
#[doc = include_str!("upgrading.md")]
pub mod upgrading {}

#[doc = include_str!("links.md")]
#[doc = include_str!("library.md")]
pub mod library {}

#[doc = include_str!("links.md")]
#[doc = include_str!("faq.md")]
pub mod faq {}

#[doc = include_str!("links.md")]
#[doc = include_str!("comparison.md")]
pub mod comparison {}
