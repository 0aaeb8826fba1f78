//! Tests of the queue and of what waits for the tail.

mod queue;
mod waiting;
