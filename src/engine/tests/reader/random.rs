//! Anything in any order.

use proptest::prelude::*;

use super::*;

/// Something that happens to a reader.
#[derive(Clone, Debug)]
enum Act {
    Request(u8, u8, u64, usize),
    LookUp(u64),
    Step,
    Fail(LogError),
    TurnAway(bool),
    Advance(u64),
    Pass(u64),
    Part(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let errors = prop_oneof![
        Just(broken()),
        Just(LogError::Malformed("what?".into())),
        Just(refused(Refusal::NotWritable)),
        Just(refused(Refusal::Setup)),
    ];
    prop_oneof![
        3 => (0..3_u8, 0..4_u8, 0..700_u64, 1..400_usize).prop_map(|(of, name, after, limit)| Act::Request(of, name, after, limit)),
        3 => (0..700_u64).prop_map(Act::LookUp),
        12 => Just(Act::Step),
        2 => errors.prop_map(Act::Fail),
        1 => any::<bool>().prop_map(Act::TurnAway),
        2 => (0..2_000_000_u64).prop_map(Act::Advance),
        1 => (0..700_u64).prop_map(Act::Pass),
        1 => (1..200_usize).prop_map(Act::Part),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever happens, every request gets one result, and what is read is right.
    #[test]
    fn every_request_gets_its_result(acts in prop::collection::vec(act(), 0..200)) {
        let records: Vec<_> = (1..=600).map(|id| record(id, &format!("name{}", id % 3), &id.to_string())).collect();
        let mut rig = Rig::new(records.clone());
        let (mut pages, mut lookups) = (Vec::new(), Vec::new());
        for act in acts {
            match act {
                Act::Request(of, name, after, limit) => {
                    let name = format!("name{name}");
                    let expected = naive(&records, &name, after, limit);
                    pages.push((rig.request(of, &name, after, limit), expected));
                }
                Act::LookUp(id) => lookups.push((rig.look_up(id), (1..=600).contains(&id))),
                Act::Step => rig.step(),
                Act::Fail(error) => rig.log.lock().errors.push_back(error),
                Act::TurnAway(is_away) => rig.log.lock().is_away = is_away,
                Act::Advance(micros) => {
                    rig.clock.advance(micros);
                    rig.engine.expire();
                }
                Act::Pass(id) => rig.engine.waiting.advance(id),
                Act::Part(part) => rig.log.lock().part = part,
            }
        }
        rig.engine.close();
        while !rig.reader.is_over() {
            rig.step();
        }
        rig.clock.advance(MAX_WAIT_MILLIS * 1000);
        rig.engine.expire();
        for (page, expected) in pages {
            match page.try_recv() {
                Ok(Ok(page)) => prop_assert_eq!(page, expected),
                Ok(Err(error)) => prop_assert!(matches!(error, EngineError::Unavailable(_) | EngineError::Closed)),
                Err(error) => prop_assert!(false, "a page got no result: {error}"),
            }
        }
        for (found, exists) in lookups {
            match found.try_recv() {
                Ok(Ok(found)) => prop_assert_eq!(found, exists),
                Ok(Err(error)) => prop_assert!(matches!(error, EngineError::Unavailable(_) | EngineError::Closed)),
                Err(error) => prop_assert!(false, "a lookup got no result: {error}"),
            }
        }
        prop_assert_eq!(rig.budget.bytes(), 0);
    }
}
