//! No content of a document makes the reader or the checks panic.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn parse_never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = check(&bytes);
    }

    #[test]
    fn parse_never_panics_on_a_damaged_document(
        docker in any::<bool>(),
        at in any::<proptest::sample::Index>(),
        len in 0..16_usize,
        with in proptest::collection::vec(any::<u8>(), 0..16),
    ) {
        let mut bytes = if docker { DOCKER } else { RUNC }.as_bytes().to_vec();
        let at = at.index(bytes.len());
        let end = (at + len).min(bytes.len());
        bytes.splice(at..end, with);
        let _ = check(&bytes);
    }

    #[test]
    fn validation_never_panics_on_any_value_anywhere(
        docker in any::<bool>(),
        at in any::<proptest::sample::Index>(),
        with in odd_value(),
    ) {
        let mut document: Value = serde_json::from_str(if docker { DOCKER } else { RUNC }).unwrap();
        let mut pointers = Vec::new();
        collect_pointers(&document, String::new(), &mut pointers);
        *document.pointer_mut(&pointers[at.index(pointers.len())]).unwrap() = with;
        let _ = check(&serde_json::to_vec(&document).unwrap());
    }
}

/// Values that are wrong nearly everywhere, and some that are nearly right.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-2..5000_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[/.:=,a-z0-9-]{0,12}".prop_map(Value::from),
        Just(Value::Array(Vec::new())),
        Just(serde_json::json!({})),
        Just(serde_json::json!([{}])),
    ]
}

fn collect_pointers(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                collect_pointers(element, format!("{at}/{index}"), pointers);
            }
        }
        Value::Object(properties) => {
            for (key, property) in properties {
                collect_pointers(
                    property,
                    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    pointers,
                );
            }
        }
        _ => {}
    }
    pointers.push(at);
}
