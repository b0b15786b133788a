//! Regression tests: histories that an unsound pruning rule would misjudge.

use synod_checker::{Options, from_json_lines, is_linearizable};

/// Two orders lead to configurations that differ only in the writes of 0 that are left. Only one of these has
/// a completion, in which process 6 reads 0.
#[test]
fn configuration_with_more_spare_writes_is_entered() {
    let lines = br#"
{"p": 1, "t": "invoke", "f": "put", "k": "x", "v": 0}
{"p": 2, "t": "invoke", "f": "get", "k": "x"}
{"p": 2, "t": "ok", "f": "get", "k": "x", "v": 0}
{"p": 3, "t": "invoke", "f": "put", "k": "x", "v": 1}
{"p": 4, "t": "invoke", "f": "get", "k": "x"}
{"p": 5, "t": "invoke", "f": "put", "k": "x", "v": 0}
{"p": 4, "t": "ok", "f": "get", "k": "x", "v": 1}
{"p": 6, "t": "invoke", "f": "get", "k": "x"}
{"p": 6, "t": "ok", "f": "get", "k": "x", "v": 0}
{"p": 5, "t": "ok", "f": "put", "k": "x", "v": null}
{"p": 7, "t": "invoke", "f": "put", "k": "x", "v": 0}
"#;
    let history = from_json_lines(lines).unwrap();
    assert_eq!(is_linearizable(&history, &Options::default(), &mut || false), Ok(true));
}
