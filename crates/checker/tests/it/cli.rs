//! The program: verdicts, exit codes, and errors of invalid input.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A temporary directory with histories.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, lines: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, lines).unwrap();
        path
    }

    /// Runs the program in the directory. Returns stdout, stderr and the exit code.
    fn check(&self, arguments: &[&str]) -> (String, String, i32) {
        let mut program = Command::new(env!("CARGO_BIN_EXE_synod-checker"));
        let Output { status, stdout, stderr } =
            program.arg("check").args(arguments).current_dir(self.0.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(stdout), text(stderr), status.code().unwrap())
    }
}

const LEGAL: &str = r#"{"p": 0, "t": "invoke", "f": "write", "k": "x", "v": 1, "time": 5}
{"p": "b", "t": "invoke", "f": "read", "k": "x", "v": null}
{"p": 0, "t": "ok", "f": "write", "k": "x", "v": 1}
{"p": "b", "t": "ok", "f": "read", "k": "x", "v": 1}
"#;

const STALE: &str = r#"{"p": 0, "t": "invoke", "f": "write", "v": 1}
{"p": 0, "t": "ok", "f": "write"}
{"p": 0, "t": "invoke", "f": "read"}
{"p": 0, "t": "ok", "f": "read", "v": null}
"#;

const MISMATCH: &str = r#"{"p": 0, "t": "invoke", "f": "cas", "v": [1, 2]}
{"p": 0, "t": "fail", "f": "cas", "v": [1, 2]}
"#;

#[test]
fn exit_code_is_that_of_the_most_severe_verdict() {
    let folder = Folder::new();
    folder.file("legal", LEGAL);
    folder.file("stale", STALE);
    folder.file("bad", "\n{\"p\": 1}\n");
    let all = folder.check(&["legal", "stale", "bad", "missing"]);
    assert_eq!(all.0, "legal: linearizable\nstale: illegal\nbad: unknown\nmissing: unknown\n");
    assert!(all.1.contains("bad:2: missing field `t`") && all.1.contains("missing: "), "{}", all.1);
    assert_eq!(all.2, 1);
    assert_eq!(folder.check(&["legal", "bad"]).2, 2);
    assert_eq!(folder.check(&["legal"]), ("legal: linearizable\n".into(), String::new(), 0));
    assert_eq!(
        folder.check(&["--max-configurations", "0", "stale"]).2,
        2,
        "no configuration allowed"
    );
}

#[test]
fn closed_output_ends_the_program_without_an_error() {
    let folder = Folder::new();
    folder.file("legal", LEGAL);
    folder.file("stale", STALE);
    let run = |files: &[&str], out: Stdio, error: Stdio| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_synod-checker"));
        program.args(["check", "--explain"]).args(files).current_dir(folder.0.path());
        let child = program.stdout(out).stderr(error).spawn().unwrap();
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        (status.code().unwrap(), String::from_utf8(stderr).unwrap())
    };
    // The reader closes the pipe before the first line: a verdict that was not printed counts as unknown.
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    assert_eq!(run(&["legal"; 9], closed(), Stdio::piped()), (2, String::new()));
    assert_eq!(run(&["stale", "missing"], Stdio::null(), closed()).0, 1);
    assert_eq!(run(&["stale"], closed(), closed()).0, 2);
    if let Ok(full) = std::fs::File::options().write(true).open("/dev/full") {
        let (code, error) = run(&["legal"], full.into(), Stdio::piped());
        assert!(code == 2 && error.starts_with("cannot write to stdout: "), "{code}: {error}");
    }
}

#[test]
fn options_change_the_meaning_of_a_history() {
    let folder = Folder::new();
    folder.file("stale", STALE);
    folder.file("cas", MISMATCH);
    let code = |arguments: &[&str]| folder.check(arguments).2;
    assert_eq!(code(&["stale", "--nil-read", "any"]), 0);
    assert_eq!(code(&["cas"]), 0);
    assert_eq!(code(&["cas", "--init", "1"]), 1);
    assert_eq!(code(&["cas", "--init", "\"1\""]), 0);
    assert_eq!(code(&["cas", "--init", "1", "--failed-cas", "never"]), 0);
    folder.file(
        "empty",
        "{\"p\":0,\"t\":\"invoke\",\"f\":\"get\",\"k\":1}\n{\"p\":0,\"t\":\"ok\",\"v\":\"\"}\n",
    );
    assert_eq!(code(&["empty"]), 1);
    assert_eq!(code(&["empty", "--init", ""]), 0);
}

#[test]
fn illegal_history_gets_an_explanation_and_a_page() {
    let folder = Folder::new();
    folder.file("stale", STALE);
    folder.file("legal", LEGAL);
    let (out, error, code) = folder.check(&["stale", "legal", "--explain", "--html", "pages"]);
    assert_eq!((out.as_str(), code), ("stale: illegal\nlegal: linearizable\n", 1));
    assert!(error.contains("get nil -> nil") && error.contains("put nil 1"), "{error}");
    let page = std::fs::read_to_string(folder.0.path().join("pages/stale.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("culprit"));
    assert!(!folder.0.path().join("pages/legal.html").exists());
}

#[test]
fn each_illegal_file_has_a_separate_page() {
    let folder = Folder::new();
    std::fs::create_dir(folder.0.path().join("a")).unwrap();
    folder.file("a/x", STALE);
    folder.file("a_x", MISMATCH);
    folder.file("a_x-2", LEGAL);
    let files = ["--init", "1", "--html", "pages", "a/x", "a_x-2", "a_x", "./a/x"];
    let (out, error, _) = folder.check(&files);
    assert_eq!(out, "a/x: illegal\na_x-2: linearizable\na_x: illegal\n./a/x: illegal\n");
    assert_eq!(error, "");
    let page = |name: &str| std::fs::read_to_string(folder.0.path().join("pages").join(name));
    // The name a_x-2 belongs to another file, although that one is linearizable and has no page.
    for (name, title) in [("a_x", "a/x"), ("a_x-3", "a_x"), ("a_x-4", "./a/x")] {
        let page = page(&format!("{name}.html")).unwrap();
        assert!(page.contains(&format!("<title>{title}</title>")), "{name}");
    }
    assert!(page("a_x-2.html").is_err());
}

#[test]
fn illegal_verdict_without_explanation_names_the_options() {
    let folder = Folder::new();
    folder.file("stale", STALE);
    let (out, error, _) = folder.check(&["stale", "stale"]);
    assert_eq!(out, "stale: illegal\nstale: illegal\n");
    assert_eq!(error, "use --explain or --html DIR to see why a history is illegal\n");
    assert!(!folder.check(&["stale", "--explain"]).1.contains("--html"));
    assert_eq!(folder.check(&["stale", "--timeout", "18446744073709551615"]).2, 1);
}

#[test]
fn byte_order_mark_crlf_and_unrelated_events_are_accepted() {
    let folder = Folder::new();
    let lines = [
        "\u{feff}{\"p\":1,\"t\":\"invoke\",\"f\":\"put\",\"k\":\"x\",\"v\":2}",
        "",
        "{\"p\":\"nemesis\",\"t\":\"info\",\"f\":\"kill\",\"v\":[\"n1\"]}",
        "{\"p\":1,\"t\":\"info\",\"f\":\"write\",\"error\":\"timeout\"}",
        "{\"p\":1,\"t\":\"invoke\",\"f\":\"cas\",\"k\":\"x\",\"v\":[2,3]}",
        "{\"p\":1,\"t\":\"ok\",\"f\":\"cas\",\"k\":\"x\",\"v\":null}",
        "{\"p\":1,\"t\":\"invoke\",\"f\":\"get\",\"k\":\"x\"}",
        "{\"p\":1,\"t\":\"ok\",\"v\":3.0}",
    ];
    folder.file("crlf", &lines.join("\r\n"));
    assert_eq!(folder.check(&["crlf"]), ("crlf: linearizable\n".into(), String::new(), 0));
}

#[test]
fn null_and_missing_values_and_unknown_outcomes_have_the_documented_meaning() {
    let folder = Folder::new();
    let verdict = |lines: &[&str], arguments: &[&str]| {
        folder.file("history", &lines.join("\n"));
        let (out, error, _) = folder.check(&[&["history"], arguments].concat());
        assert!(error.is_empty() || error.starts_with("use --explain"), "{error}");
        out.trim_start_matches("history: ").trim_end().to_owned()
    };
    assert_eq!(verdict(&[], &[]), "linearizable", "an empty history");
    // A write with an unknown outcome may take effect long after its info. A failed write has no effect.
    let write = "{\"p\":1,\"t\":\"invoke\",\"f\":\"write\",\"v\":7}";
    let read = "{\"p\":2,\"t\":\"invoke\",\"f\":\"read\"}";
    let read_ok = |value: &str| format!("{{\"p\":2,\"t\":\"ok\",\"f\":\"read\",\"v\":{value}}}");
    let (nothing, seven, text) = (read_ok("null"), read_ok("7"), read_ok("\"7\""));
    let info = "{\"p\":1,\"t\":\"info\",\"f\":\"write\",\"v\":\"timed-out\"}";
    let fail = "{\"p\":1,\"t\":\"fail\",\"f\":\"write\",\"v\":7}";
    let late = [write, info, read, &nothing, read, &seven];
    assert_eq!(verdict(&late, &[]), "linearizable");
    assert_eq!(verdict(&[write, info, read, &seven, read, &nothing], &[]), "illegal");
    assert_eq!(verdict(&[write, fail, read, &seven], &[]), "illegal");
    assert_eq!(
        verdict(&[write, info, read, &text], &[]),
        "illegal",
        "the number 7 is not the text \"7\""
    );
    // A read that failed, or has an unknown outcome, adds no constraint.
    let unread = "{\"p\":2,\"t\":\"fail\",\"f\":\"read\",\"v\":\"timed-out\"}";
    assert_eq!(verdict(&[read, unread, write, read], &[]), "linearizable");
    // Null is a value: a write of it deletes the key, and a compare-and-set may expect it.
    let swap = "{\"p\":2,\"t\":\"invoke\",\"f\":\"cas\",\"v\":[null,7]}";
    let swapped = "{\"p\":2,\"t\":\"ok\",\"f\":\"cas\",\"v\":[null,7]}";
    assert_eq!(verdict(&[swap, swapped, read, &seven], &[]), "linearizable");
    assert_eq!(verdict(&[swap, swapped], &["--init", "3"]), "illegal");
    let delete = "{\"p\":1,\"t\":\"invoke\",\"f\":\"write\",\"v\":null}";
    let deleted = "{\"p\":1,\"t\":\"ok\",\"f\":\"write\"}";
    assert_eq!(verdict(&[delete, deleted, read, &nothing], &["--init", "3"]), "linearizable");
    // A read without a value read nil.
    let silent = "{\"p\":2,\"t\":\"ok\",\"f\":\"read\"}";
    assert_eq!(verdict(&[read, silent], &[]), "linearizable");
    assert_eq!(verdict(&[read, silent], &["--init", "3"]), "illegal");
    assert_eq!(verdict(&[read, &text], &["--init", "\"7\""]), "linearizable");
    assert_eq!(verdict(&[read, &seven], &["--init", "7"]), "linearizable");
    assert_eq!(verdict(&[read, &nothing], &["--init", "null"]), "linearizable");
}

#[test]
fn invalid_line_is_rejected_with_its_number() {
    let folder = Folder::new();
    let invoke = "{\"p\":1,\"t\":\"invoke\",\"f\":\"get\"}\n";
    for (lines, message) in [
        ("nonsense".to_owned(), "1: expected ident"),
        (format!("{invoke}{invoke}"), "2: process 1 already has an operation in flight"),
        ("{\"p\":1,\"t\":\"ok\"}".into(), "1: process 1 has no operation in flight"),
        (
            format!("{invoke}\n{{\"p\":1,\"t\":\"info\"}}\r\n{{\"p\":1,\"t\":\"ok\"}}"),
            "4: process 1 has no operation in flight",
        ),
        (
            format!("{invoke}{{\"p\":1,\"t\":\"ok\",\"f\":\"put\"}}"),
            "2: \"f\" is \"put\", but get nil is in flight",
        ),
        (format!("{invoke}{{\"p\":1,\"t\":\"ok\",\"k\":3}}"), "2: \"k\" is not the key of get nil"),
        ("{\"p\":1,\"t\":\"invoke\",\"f\":\"cas\",\"v\":3}".into(), "1: the value of a cas"),
        ("{\"p\":1,\"t\":\"invoke\",\"f\":\"push\"}".into(), "1: unknown operation"),
        (
            format!("{invoke}{{\"p\":2,\"t\":\"invoke\",\"f\":\"write\",\"k\":1}}"),
            "2: \"write\" has no \"v\": add the new value, or null for nil",
        ),
        ("{\"p\":1,\"t\":\"invoke\",\"f\":\"put\"}".into(), "1: \"put\" has no \"v\""),
        ("{\"p\":1,\"t\":\"invoke\",\"f\":\"append\"}".into(), "1: \"append\" has no \"v\""),
        (
            "{\"p\":1,\"t\":\"invoke\",\"f\":\"cas\"}".into(),
            "1: \"cas\" has no \"v\": add [old, new]",
        ),
        ("{\"p\":1,\"t\":\"invoke\",\"f\":\"txn\"}".into(), "1: \"txn\" has no \"v\""),
        ("{\"p\":null,\"t\":\"invoke\",\"f\":\"get\"}".into(), "1: \"p\" is missing or null"),
        (
            "{\"p\":1,\"t\":\"invoke\",\"f\":\"put\",\"v\":1e300}".into(),
            "1: 1e300 has no exact representation",
        ),
    ] {
        folder.file("bad", &lines);
        let (out, error, code) = folder.check(&["bad"]);
        assert_eq!((out.as_str(), code), ("bad: unknown\n", 2), "{lines}");
        assert!(error.starts_with(&format!("bad:{message}")), "{error}");
    }
}
