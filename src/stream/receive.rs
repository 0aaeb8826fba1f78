//! Receiving: moves what the hub has sent into the replica, and notices replacements of all records and losses of the log.

use std::sync::Arc;

use crate::hub::{Delivery, FeedId, RecordReset, TopicId};
use crate::net::Socket;
use crate::sse::Frame;
use crate::stream::Streams;

impl<S: Socket> Streams<S> {
    /// Moves everything in the inbox into the replica, and notifies the groups that listen to it.
    pub fn take_inbox(&mut self) {
        // Checked separately: a record gets its id before its commit, and events published in the meantime get larger ones.
        let (mut newest_event, mut newest_record) = (0, 0);
        let waiting = self.inbox.len();
        // After the deliveries are counted: none of those is newer than a replacement or a loss that is not noticed here.
        let replaced = self.take_record_reset();
        self.take_loss();
        for index in 0..waiting.max(replaced) {
            let Some(delivery) = self.inbox.waiting().next() else { return };
            self.inbox.mark_taken(&delivery);
            if index < replaced && delivery.feed == FeedId::Records {
                continue;
            }
            let newest = match delivery.feed {
                FeedId::Topic(_) => &mut newest_event,
                FeedId::Records => &mut newest_record,
            };
            debug_assert!(delivery.frame.id() > *newest, "the hub sends events and records in the order of their ids");
            *newest = delivery.frame.id();
            match delivery.feed {
                FeedId::Topic(topic) => self.take_event(topic, delivery.frame),
                FeedId::Records => self.take_record(delivery),
            }
        }
    }

    /// Notices that the hub's records were replaced: then a gap is due to all subscribers to records. Returns the number of
    /// deliveries that were sent before that is noticed: their records are replaced, or will be read from the hub.
    fn take_record_reset(&mut self) -> usize {
        if !self.has_replaced_records() {
            return 0;
        }
        let RecordReset { resets, waiting } = self.hub.record_reset(self.worker);
        self.subscribers.on_records_replaced();
        self.replica.records_mut().reset(resets);
        self.groups.notify_records();
        waiting
    }

    /// Notices that the log has lost events: then a gap is due to all subscribers to topics.
    fn take_loss(&mut self) {
        if self.replica.lose_through(self.hub.lost_through()) {
            self.groups.notify_topics();
        }
    }

    fn take_event(&mut self, topic: TopicId, frame: Arc<Frame>) {
        for &key in self.replica.push_event(topic, frame) {
            self.groups.notify(key);
        }
    }

    fn take_record(&mut self, delivery: Delivery) {
        let Delivery { frame, superseded, .. } = delivery;
        self.subscribers.on_evicted(superseded);
        let records = self.replica.records_mut();
        if frame.is_erasure() {
            records.note_erasure(frame.id());
        }
        if frame.name().is_some_and(|name| self.groups.notify_name(name)) {
            records.push(frame);
        }
    }
}
