//! Records against arbitrary bytes, and the transition table against a model.

use super::super::exit::tests::any_exit_record;
use super::*;
use proptest::prelude::*;

const EVERY_STATUS: [Status; 5] =
    [Status::Creating, Status::Created, Status::Running, Status::Paused, Status::Stopped];

fn id(id: &str) -> ContainerId {
    ContainerId::new(id).unwrap()
}

fn sample() -> Record {
    let spec = RawSpec::new("{ \"ociVersion\": \"1.2.0\",\n  \"hostname\": \"h\\u00e9\" }".into()).unwrap();
    let mut record = Record::new(id("web"), id("pod"), "/srv/web".into(), spec);
    record.cgroups = vec!["/sys/fs/cgroup/web".into()];
    record.boot_id = "0f0f".into();
    record
}

fn any_identity() -> impl Strategy<Value = Option<ProcessIdentity>> {
    let identity = |(pid, start_time): (i32, u64)| {
        serde_json::from_value(serde_json::json!({ "pid": pid, "start_time": start_time })).unwrap()
    };
    proptest::option::of(any::<(i32, u64)>().prop_map(identity))
}

fn any_request() -> impl Strategy<Value = EndRequest> {
    prop_oneof![
        any::<i32>().prop_map(EndRequest::Signal),
        Just(EndRequest::Killed),
        any::<u64>().prop_map(|after_ms| EndRequest::TimedOut { after_ms }),
    ]
}

prop_compose! {
    fn any_record()(
        ids in ("[A-Za-z0-9_+][A-Za-z0-9_+.-]{0,80}", "[a-z]{1,255}"),
        paths in prop::collection::vec("/\\PC{0,20}", 2..6),
        hostname in "\\PC{0,30}",
        status in prop::sample::select(&EVERY_STATUS[..]),
        numbers in any::<(u64, u64)>(),
        share in any::<f64>(),
        flags in any::<(bool, bool, bool)>(),
        identities in (any_identity(), any_identity(), any_identity()),
        request in prop::option::of(any_request()),
        exit in prop::option::of(any_exit_record()),
    ) -> Record {
        let spec = RawSpec::new(serde_json::json!({ "hostname": hostname }).to_string()).unwrap();
        let mut record = Record::new(id(&ids.0), id(&ids.1), paths[0].clone().into(), spec);
        record.status = status;
        record.created_at = numbers.0;
        record.generation = numbers.1;
        record.extras = serde_json::json!({ "hostname": hostname, "paths": paths, "share": share });
        (record.sandbox, record.gofer, record.init) = identities;
        record.control_socket = paths[1].clone().into();
        record.pid_file = flags.0.then(|| paths[1].clone().into());
        record.cgroups = paths[2..].iter().map(PathBuf::from).collect();
        (record.attached, record.poststop_ran) = (flags.1, flags.2);
        record.ended_by = request;
        record.exit = exit;
        record
    }
}

proptest! {
    #[test]
    fn a_record_survives_the_disk(record in any_record()) {
        let bytes = record.encode().unwrap();
        prop_assert_eq!(&Record::decode(&bytes).unwrap(), &record);
        prop_assert_eq!(Record::decode(&bytes).unwrap().encode().unwrap(), bytes);
    }

    #[test]
    fn a_cut_record_is_stale(record in any_record(), cut in any::<prop::sample::Index>()) {
        let bytes = record.encode().unwrap();
        let error = Record::decode(&bytes[..cut.index(bytes.len())]).unwrap_err();
        prop_assert_eq!(error.kind(), &ErrorKind::Stale);
    }

    #[test]
    fn a_record_with_flipped_bits_is_stale(record in any_record(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = record.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let error = Record::decode(&bytes).unwrap_err();
        prop_assert_eq!(error.kind(), &ErrorKind::Stale);
    }

    #[test]
    fn arbitrary_bytes_are_stale(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let error = Record::decode(&bytes).unwrap_err();
        prop_assert_eq!(error.kind(), &ErrorKind::Stale);
    }

    #[test]
    fn arbitrary_json_with_a_right_checksum_never_panics(json in "[{}\\[\\]:,\"a-z0-9 ]{0,60}") {
        let sealed = format!("{json}{}", trailer(json.as_bytes()));
        prop_assert!(Record::decode(sealed.as_bytes()).is_err());
    }

    /// The model is the picture on [`Status`], written down as edges.
    #[test]
    fn a_status_moves_along_the_edges_only(walk in prop::collection::vec(prop::sample::select(&EVERY_STATUS[..]), 0..40)) {
        use Status::{Created, Creating, Paused, Running, Stopped};
        const EDGES: [(Status, Status); 8] = [
            (Creating, Created), (Created, Running), (Running, Paused), (Paused, Running),
            (Creating, Stopped), (Created, Stopped), (Running, Stopped), (Paused, Stopped),
        ];
        let mut record = sample();
        let mut model = Creating;
        for next in walk {
            let outcome = record.advance(next);
            if EDGES.contains(&(model, next)) {
                prop_assert!(outcome.is_ok());
                model = next;
            } else {
                let error = outcome.unwrap_err();
                prop_assert_eq!(error.kind(), &ErrorKind::WrongState { actual: model });
            }
            prop_assert_eq!(record.status(), model);
        }
    }
}

#[test]
fn nothing_leaves_stopped_and_nothing_returns_to_creating() {
    for status in EVERY_STATUS {
        assert!(!Status::Stopped.may_become(status));
        assert!(!status.may_become(Status::Creating));
    }
}

#[test]
fn a_refused_transition_says_what_the_container_is() {
    let error = sample().advance(Status::Paused).unwrap_err();
    assert_eq!(error.to_string(), "state: container \"web\" is creating, it cannot become paused");
}

#[test]
fn the_words_on_disk_are_those_of_the_specification() {
    for status in EVERY_STATUS {
        assert_eq!(serde_json::to_value(status).unwrap(), status.to_string());
    }
}

#[test]
fn a_record_of_another_version_names_both() {
    for (version, age) in [(RECORD_VERSION + 1, "newer"), (RECORD_VERSION - 1, "older")] {
        let mut record = sample();
        record.version = version;
        let expected =
            format!("decode record: was written by {age} version {version}, this program reads version 1");
        let error = Record::decode(&record.encode().unwrap()).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Stale, expected.clone()));

        // Other fields and another ending are what makes another version.
        let foreign = format!("{{\"version\":{version},\"shape\":\"other\"}}\n");
        assert_eq!(Record::decode(foreign.as_bytes()).unwrap_err().to_string(), expected);
    }
}

#[test]
fn an_unknown_field_is_refused() {
    let bytes = sample().encode().unwrap();
    let json = std::str::from_utf8(&bytes[..bytes.len() - TRAILER_LEN]).unwrap();
    let extended = json.replacen("\"version\":1", "\"version\":1,\"colour\":\"red\"", 1);
    let sealed = format!("{extended}{}", trailer(extended.as_bytes()));
    let error = Record::decode(sealed.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("unknown field `colour`"), "{error}");
}

#[test]
fn the_limit_holds_in_both_directions() {
    let mut record = sample();
    record.spec = RawSpec::new(format!("\"{}\"", "x".repeat(MAX_RECORD_BYTES))).unwrap();
    assert_eq!(record.encode().unwrap_err().kind(), &ErrorKind::InvalidInput);
    assert_eq!(Record::decode(&vec![b' '; MAX_RECORD_BYTES + 1]).unwrap_err().kind(), &ErrorKind::Stale);
}

#[test]
fn nesting_that_would_exhaust_the_stack_is_an_error() {
    let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let bytes = sample().encode().unwrap();
    let json = std::str::from_utf8(&bytes[..bytes.len() - TRAILER_LEN]).unwrap();
    let nested = json.replacen("\"extras\":null", &format!("\"extras\":{deep}"), 1);
    let sealed = format!("{nested}{}", trailer(nested.as_bytes()));
    assert_eq!(Record::decode(sealed.as_bytes()).unwrap_err().kind(), &ErrorKind::Stale);
}

#[test]
fn the_spec_is_kept_letter_by_letter_and_parsed_on_demand() {
    let record = Record::decode(&sample().encode().unwrap()).unwrap();
    assert_eq!(record.spec.text(), sample().spec.text());
    assert_eq!(record.spec.parse().unwrap().hostname().as_deref(), Some("hé"));
    assert!(!format!("{record:?}").contains("hostname"));

    let built = RawSpec::from_spec(&Spec::default()).unwrap();
    assert_eq!(built.parse().unwrap(), Spec::default());
    assert!(RawSpec::new("{".into()).is_err());
    assert!(RawSpec::new("3".into()).unwrap().parse().is_err());
}

#[test]
fn a_path_that_is_no_text_is_refused_before_anything_is_written() {
    use std::os::unix::ffi::OsStringExt;
    let mut record = sample();
    record.bundle = std::ffi::OsString::from_vec(b"/srv/\xff".to_vec()).into();
    assert_eq!(record.encode().unwrap_err().kind(), &ErrorKind::InvalidInput);
}

#[test]
fn a_checksum_sees_every_single_bit_and_every_cut() {
    let whole = (0..37).collect::<Vec<u8>>();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(checksum(&damaged), checksum(&whole), "bit {bit}");
    }
    for end in 0..whole.len() {
        assert_ne!(checksum(&whole[..end]), checksum(&whole), "cut at {end}");
    }
}
