use super::*;

fn payload(entry: &Entry<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    entry.write(&mut payload);
    payload
}

fn read_back(entry: &Entry<'_>) -> Vec<u8> {
    let bytes = payload(entry);
    let read = Entry::read(7, entry.kind().number(), &bytes).expect("of the schema");
    assert_eq!(read.kind(), entry.kind());
    assert_eq!(payload(&read), bytes);
    bytes
}

fn problem(kind: Kind, payload: &[u8]) -> String {
    Entry::read(7, kind.number(), payload)
        .expect_err("not of the schema")
        .to_string()
}

#[test]
fn kinds_have_a_number_and_a_name_each() {
    for (kind, number, name) in KINDS {
        assert_eq!((kind.number(), kind.name()), (number, name));
        assert_eq!(Kind::numbered(number), Some(kind));
        assert_eq!(Kind::named(name), Some(kind));
        assert_eq!(serde_json::to_value(kind).expect("text"), name);
    }
    assert_eq!(Kind::numbered(0), None);
}

#[test]
fn a_new_decision_is_read_with_the_very_bytes() {
    // White space and the order of members stay as they came.
    let request = b"{ \"state\" :\n {\"b\": 1, \"a\": 1e2} }";
    let response = br#"{"schema":1,"policy":"x"}"#;
    for (stateful, client) in [
        (None, None),
        (Some(None), Some("a \"client\"")),
        (Some(Some(41)), None),
    ] {
        let new = NewDecision {
            policy: "model",
            model_sha256: client.map(|_| "ab12"),
            client,
            request: Json::check(request).expect("JSON"),
            stateful,
            response: Json::parsed(response),
        };
        let mut bytes = Vec::new();
        new.write(DecisionId(42), &mut bytes);
        let Ok(Entry::Decision(entry)) = Entry::read(42, 1, &bytes) else {
            panic!("not a decision: {}", String::from_utf8_lossy(&bytes));
        };
        assert_eq!(entry.policy, "model");
        assert_eq!(entry.client.as_deref(), client);
        assert_eq!(entry.model_sha256.as_deref(), client.map(|_| "ab12"));
        let (raw, telemetry) = match entry.mode {
            Mode::Stateless { request } => (request, None),
            Mode::Stateful {
                requests,
                telemetry,
            } => (requests, Some(telemetry)),
        };
        assert_eq!(raw.get().as_bytes(), request);
        assert_eq!(telemetry, stateful);
        let answered = with_id(Json::parsed(response), DecisionId(42));
        assert_eq!(entry.response.get().as_bytes(), answered);
        assert_eq!(
            answered,
            br#"{"id":"00000000000000000042","schema":1,"policy":"x"}"#
        );
    }
}

#[test]
fn every_entry_comes_back() {
    let raw: &RawValue = serde_json::from_str("{\"hosts\": []}").expect("JSON");
    let input = Input {
        schema: ENTRY_SCHEMA,
        client: Some("deployer".into()),
        input: raw,
    };
    read_back(&Entry::Fleet(input.clone()));
    read_back(&Entry::Telemetry(input));
    let snapshot = [0xff, b'\n', b'r', 0, b'\n'];
    let bytes = payload(&Entry::Checkpoint(Checkpoint {
        through: 12,
        snapshot: &snapshot,
    }));
    let read = Entry::read(7, Kind::Checkpoint.number(), &bytes).expect("of the schema");
    let Entry::Checkpoint(read) = read else {
        panic!("another kind");
    };
    assert_eq!((read.through, read.snapshot), (12, &snapshot[..]));
    read_back(&Entry::Outcome(Outcome {
        schema: ENTRY_SCHEMA,
        decision: DecisionId(42),
        request: 3,
        answered: true,
        response_s: Some(0.1),
        late: false,
    }));
    read_back(&Entry::Audit(Audit {
        schema: ENTRY_SCHEMA,
        client: None,
        action: "activate-model".into(),
        detail: "edge".into(),
    }));
    read_back(&Entry::Action(Action {
        schema: ENTRY_SCHEMA,
        operation: "17".into(),
        vm: "vm-3".into(),
        action: "start".into(),
        reason: "load".into(),
        price_usd_per_hour: 0.1,
        phase: Phase::Intended,
    }));
    read_back(&Entry::Resumed(Resumed {
        schema: ENTRY_SCHEMA,
        refused: 3,
    }));
    read_back(&Entry::Closed(Closed {
        schema: ENTRY_SCHEMA,
    }));
}

#[test]
fn what_is_not_of_the_schema_is_refused_with_the_reason() {
    let text = problem(Kind::Closed, b"{\"schema\":2,\"new\":1}");
    assert_eq!(
        text,
        "record 7: closed: schema 2, but this program reads schema 1"
    );
    let text = problem(Kind::Closed, b"{\"schema\":1,\"new\":1}");
    assert!(text.contains("unknown field `new`"), "{text}");
    let text = problem(Kind::Audit, b"\xff");
    assert!(text.starts_with("record 7: audit: "), "{text}");
    let text = problem(Kind::Checkpoint, b"{\"schema\":1,\"through\":1}");
    assert!(text.contains("no snapshot"), "{text}");
    let error = Entry::read(7, 99, b"{}").expect_err("unknown");
    assert!(error.to_string().contains("99 is no kind"), "{error}");
}
