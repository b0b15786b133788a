//! The real `etcdctl` against the API.
//!
//! If `etcdctl` is not installed, these tests print a note and pass; with `CI=true` they fail.

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

/// Result of a run of etcdctl.
struct CommandResult {
    ok: bool,
    stdout: String,
    stderr: String,
}

/// The `etcdctl` program, with the endpoint of a server.
#[derive(Clone)]
struct Etcdctl {
    endpoint: String,
}

impl Etcdctl {
    /// Returns the tool, or `None` with a printed reason.
    fn find(server: SocketAddr) -> Option<Self> {
        match Command::new("etcdctl").arg("version").env("ETCDCTL_API", "3").output() {
            Ok(output) if output.status.success() => Some(Self { endpoint: server.to_string() }),
            found => {
                assert!(
                    std::env::var("CI").as_deref() != Ok("true"),
                    "no etcdctl in CI: {found:?}"
                );
                eprintln!("skipped: etcdctl cannot be run ({found:?}); Debian has etcd-client");
                None
            }
        }
    }

    /// Runs the tool on a blocking thread: the threads of the runtime serve its requests.
    async fn run(&self, arguments: &[&str], input: &'static str) -> CommandResult {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .env_remove("ETCDCTL_ENDPOINTS")
            .args(["--endpoints", &self.endpoint, "--command-timeout", "20s"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let run = move || -> std::io::Result<Output> {
            let mut child = command.spawn()?;
            child.stdin.take().expect("stdin is piped").write_all(input.as_bytes())?;
            child.wait_with_output()
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
        CommandResult {
            ok: output.status.success(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs the tool, expects success, and returns its output.
    async fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with(arguments, "").await
    }

    async fn ok_with(&self, arguments: &[&str], input: &'static str) -> String {
        let result = self.run(arguments, input).await;
        assert!(result.ok, "etcdctl {arguments:?} failed: {}{}", result.stdout, result.stderr);
        result.stdout
    }

    /// Runs the tool, expects failure, and returns its error output.
    async fn fails(&self, arguments: &[&str]) -> String {
        let result = self.run(arguments, "").await;
        assert!(!result.ok, "etcdctl {arguments:?} succeeded: {}", result.stdout);
        result.stderr
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn put_get_and_del_work() {
    let (_backend, address) = common::serve().await;
    let Some(etcdctl) = Etcdctl::find(address) else { return };
    assert_eq!(etcdctl.ok(&["put", "a/1", "one"]).await, "OK\n");
    assert_eq!(etcdctl.ok(&["put", "a/2", "two"]).await, "OK\n");
    assert_eq!(etcdctl.ok(&["put", "b", "other"]).await, "OK\n");
    assert_eq!(etcdctl.ok(&["put", "--prev-kv", "b", "new"]).await, "OK\nb\nother\n");
    assert_eq!(etcdctl.ok(&["get", "a/1"]).await, "a/1\none\n");
    assert_eq!(etcdctl.ok(&["get", "missing"]).await, "");
    assert_eq!(etcdctl.ok(&["get", "--prefix", "a/"]).await, "a/1\none\na/2\ntwo\n");
    assert_eq!(etcdctl.ok(&["get", "a/1", "b"]).await, "a/1\none\na/2\ntwo\n");
    assert_eq!(etcdctl.ok(&["get", "--from-key", "a/2"]).await, "a/2\ntwo\nb\nnew\n");
    let last = ["get", "--prefix", "", "--order", "DESCEND", "--sort-by", "MODIFY", "--limit", "1"];
    assert_eq!(etcdctl.ok(&last).await, "b\nnew\n");
    assert_eq!(etcdctl.ok(&["get", "--prefix", "a/", "--keys-only"]).await, "a/1\n\na/2\n\n");
    assert_eq!(etcdctl.ok(&["get", "--consistency=s", "b"]).await, "b\nnew\n");
    assert_eq!(etcdctl.ok(&["del", "--prefix", "a/"]).await, "2\n");
    assert_eq!(etcdctl.ok(&["del", "--prev-kv", "b"]).await, "1\nb\nnew\n");
    assert_eq!(etcdctl.ok(&["del", "b"]).await, "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn get_prints_json() {
    let (_backend, address) = common::serve().await;
    let Some(etcdctl) = Etcdctl::find(address) else { return };
    etcdctl.ok(&["put", "k", "v1"]).await;
    etcdctl.ok(&["put", "k", "v2"]).await;
    let header = r#""header":{"cluster_id":193,"member_id":2,"revision":3,"raft_term":7}"#;
    // etcdctl writes bytes in base64.
    let kv = r#"{"key":"aw==","create_revision":2,"mod_revision":3,"version":2,"value":"djI="}"#;
    let expected = format!("{{{header},\"kvs\":[{kv}],\"count\":1}}\n");
    assert_eq!(etcdctl.ok(&["get", "k", "-w", "json"]).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_work() {
    let (_backend, address) = common::serve().await;
    let Some(etcdctl) = Etcdctl::find(address) else { return };
    let create = "create(\"lock\") = \"0\"\n\nput lock mine\n\nget lock\n\n";
    assert_eq!(etcdctl.ok_with(&["txn"], create).await, "SUCCESS\n\nOK\n");
    assert_eq!(etcdctl.ok_with(&["txn"], create).await, "FAILURE\n\nlock\nmine\n");
    let swap =
        "value(\"lock\") = \"mine\"\nversion(\"lock\") < \"2\"\n\nput lock yours\nput log x\n\n\n";
    assert_eq!(etcdctl.ok_with(&["txn"], swap).await, "SUCCESS\n\nOK\n\nOK\n");
    assert_eq!(etcdctl.ok(&["get", "lock", "--print-value-only"]).await, "yours\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_commands_work() {
    let (backend, address) = common::serve().await;
    let Some(etcdctl) = Etcdctl::find(address) else { return };
    etcdctl.ok(&["put", "k", "v"]).await;

    let health = etcdctl.run(&["endpoint", "health"], "").await;
    assert!(health.ok, "{}{}", health.stdout, health.stderr);
    let output = format!("{}{}", health.stdout, health.stderr);
    assert!(output.contains("is healthy: successfully committed proposal"), "{output}");

    let status = etcdctl.ok(&["endpoint", "status"]).await;
    let expected = format!("{address}, 2, 3.4.0, 4.1 kB, true, false, 7, 1, 1, \n");
    assert_eq!(status, expected, "endpoint, id, version, size, leader, learner, term, indexes");

    let members = etcdctl.ok(&["member", "list"]).await;
    let expected = "1, started, node1, quic://10.0.0.1:2380, http://10.0.0.1:2379, false\n\
                    2, started, node2, quic://10.0.0.2:2380, http://10.0.0.2:2379, false\n\
                    3, started, node3, quic://10.0.0.3:2380, http://10.0.0.3:2379, true\n";
    assert_eq!(members, expected);
    assert_eq!(etcdctl.ok(&["alarm", "list"]).await, "");

    backend.set_leader(false);
    let status = etcdctl.ok(&["endpoint", "status"]).await;
    assert!(status.contains("false, false, 7, 1, 1, etcdserver: no leader"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_command_fails_at_once_with_its_name() {
    let (_backend, address) = common::serve().await;
    let Some(etcdctl) = Etcdctl::find(address) else { return };
    let cases: [(&[&str], &str); 7] = [
        (&["watch", "k"], "Watch"),
        (&["lease", "grant", "10"], "LeaseGrant"),
        (&["user", "list"], "UserList"),
        (&["compaction", "1"], "Compact"),
        (&["defrag"], "Defragment"),
        (&["member", "remove", "2"], "MemberRemove"),
        (&["lock", "name"], "LeaseGrant"),
    ];
    for (arguments, method) in cases {
        let error = etcdctl.fails(arguments).await;
        let expected = format!("synod: {method} is not supported");
        assert!(error.contains(&expected), "etcdctl {arguments:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_prints_errors_with_etcds_texts() {
    let (_backend, address) = common::serve().await;
    let Some(etcdctl) = Etcdctl::find(address) else { return };
    let error = etcdctl.fails(&["put", "", "v"]).await;
    assert!(error.contains("etcdserver: key is not provided"), "{error}");
    let error = etcdctl.fails(&["get", "k", "--rev", "9"]).await;
    assert!(error.contains("etcdserver: mvcc: required revision is a future revision"), "{error}");
    let error = etcdctl.fails(&["put", "--ignore-value", "k"]).await;
    assert!(error.contains("etcdserver: key not found"), "{error}");
}
