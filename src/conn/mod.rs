//! One HTTP connection: its state machine, its buffers and its share of a loop iteration. Independent of topics.

pub(crate) mod budget;
pub(crate) mod connection;
pub(crate) mod exchange;
pub(crate) mod min_rate;
