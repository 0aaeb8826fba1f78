//! Writes the table as the JSON object of `/stats`, with a member for each metric that has a view.

use serde_json::{Map, Value, json};

use super::family::{Family, Label, Number, Samples, View};
use super::histogram::Buckets;

/// Returns the JSON object of `/stats`.
pub fn stats(table: &[Family]) -> Value {
    let members = table.iter().filter_map(|family| Some(member(family.view?, &family.samples)));
    object(members)
}

fn member(view: View, samples: &Samples) -> (String, Value) {
    let (name, value) = match view {
        View::Value(name) => (name, value(samples)),
        View::Each(name) => (name, each(labelled(samples))),
        View::Word(name) => (name, word(labelled(samples))),
        View::Bool(name) => (name, Value::from(is_one(sum(samples)))),
    };
    (name.to_owned(), value)
}

fn value(samples: &Samples) -> Value {
    match samples {
        Samples::Buckets(buckets) => histogram(buckets),
        Samples::One(_) | Samples::By(..) => number(sum(samples)),
    }
}

fn histogram(buckets: &Buckets) -> Value {
    let cumulative: Vec<_> = buckets.cumulative().map(|(bound, count)| json!([bound, count])).collect();
    json!({"buckets": cumulative, "count": buckets.count(), "sum": buckets.sum_seconds()})
}

fn each(samples: &[(Label, Number)]) -> Value {
    object(samples.iter().map(|(label, value)| (label.to_string(), number(*value))))
}

/// Returns an object. Adds the members one by one, because the code that collects them would sort them first, and is large.
fn object(members: impl Iterator<Item = (String, Value)>) -> Value {
    let mut object = Map::new();
    object.extend(members);
    Value::Object(object)
}

fn word(samples: &[(Label, Number)]) -> Value {
    samples.iter().find(|(_, number)| is_one(*number)).map(|(label, _)| label.to_string()).into()
}

fn labelled(samples: &Samples) -> &[(Label, Number)] {
    match samples {
        Samples::By(_, samples) => samples,
        Samples::One(_) | Samples::Buckets(_) => &[],
    }
}

fn sum(samples: &Samples) -> Number {
    match samples {
        Samples::One(number) => *number,
        Samples::By(_, samples) => samples.iter().fold(Number::Whole(0), |sum, (_, number)| add(sum, *number)),
        Samples::Buckets(buckets) => Number::Whole(buckets.count()),
    }
}

fn add(one: Number, other: Number) -> Number {
    let real = |number| match number {
        Number::Whole(number) => number as f64,
        Number::Real(number) => number,
    };
    match (one, other) {
        (Number::Whole(one), Number::Whole(other)) => Number::Whole(one + other),
        _ => Number::Real(real(one) + real(other)),
    }
}

fn is_one(number: Number) -> bool {
    number == Number::Whole(1)
}

fn number(number: Number) -> Value {
    match number {
        Number::Whole(number) => number.into(),
        Number::Real(number) => number.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_has_its_json() {
        let by_worker = || Samples::by_index("worker", [3, 4].into_iter());
        let states = || Samples::by_word("state", &["ready", "full"], |index| index as u64);
        let mut buckets = Buckets::default();
        buckets.add(400, 3);
        let table = [
            Family::gauge("a", "Not shown.", 1_u64),
            Family::gauge("b", "A number.", 0.5).shown_as("b"),
            Family::gauge("c", "A sum.", by_worker()).shown_as("c"),
            Family::gauge("d", "Each.", states()).shown(View::Each("d")),
            Family::gauge("e", "A word.", states()).shown(View::Word("e")),
            Family::gauge("f", "A Boolean.", true).shown(View::Bool("f")),
            Family::histogram("g", "Buckets.", buckets).shown_as("g"),
        ];
        let stats = stats(&table);
        assert_eq!(stats["g"]["buckets"][2], json!([0.0005, 3]));
        assert_eq!((&stats["g"]["count"], &stats["g"]["sum"]), (&json!(3), &json!(0.0012)));
        let mut rest = stats;
        rest.as_object_mut().unwrap().remove("g");
        assert_eq!(rest, json!({"b": 0.5, "c": 7, "d": {"ready": 0, "full": 1}, "e": "full", "f": true}));
    }
}
