//! Keys of subscriber groups and subscribers, as every part of a worker's streams uses them.

/// Key of a subscriber group.
pub type GroupKey = u32;
/// Key of a subscriber.
pub type SubscriberKey = u32;
