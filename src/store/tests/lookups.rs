//! Lookups of ids.

use super::*;

fn exists(rig: &Rig, id: u64) -> Result<bool, StoreError> {
    let (sender, reply) = mpsc::channel();
    rig.store.contains(id, move |result| sender.send(result).unwrap());
    reply.recv().unwrap()
}

#[test]
fn every_version_exists_and_no_other_id() {
    let scratch = Scratch::new();
    for location in [Location::Memory, scratch.location()] {
        let rig = Rig::with(&location, small_limits());
        let mut ids = Vec::new();
        for number in 0..20 {
            // Ids of other events lie in between.
            rig.ids.newest.fetch_add(number % 3, Ordering::SeqCst);
            ids.push(rig.insert(["user", "order"][number as usize % 2], "1").unwrap());
        }
        for id in 0..=ids.last().unwrap() + 1 {
            assert_eq!(exists(&rig, id), Ok(ids.contains(&id)), "{id}");
        }
        assert_eq!(exists(&rig, u64::MAX), Ok(false));
        rig.store.close();
        assert_eq!(exists(&rig, ids[0]), Err(StoreError::Closed));
    }
    assert_eq!(exists(&Rig::new(&scratch.location()), 1), Ok(true), "after a restart");
}
