//! `etcdctl` on every node of a cluster.

use crate::support::{Nodes, PROTOCOLS, Shape, has_tool, one_at_a_time, stdout};
use serde_json::Value;
use std::process::Command;

/// One etcdctl session through one node.
struct Session {
    endpoint: String,
}

#[test]
fn etcdctl_works_on_every_node() {
    if !has_tool("etcdctl", "version") {
        return;
    }
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let shape = Shape { protocol, store: "memory", settings: "" };
        let mut nodes = Nodes::new(&shape, |_, _, _| None);
        nodes.start_all();
        nodes.leader(&[0, 1, 2]);
        for port in &nodes.ports {
            let session = Session { endpoint: format!("127.0.0.1:{port}") };
            session.keys();
            session.transactions();
            session.cluster();
            assert_eq!(session.run(&["del", "", "--prefix"]).trim(), "5");
        }
    }
}

impl Session {
    fn run(&self, arguments: &[&str]) -> String {
        stdout(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint]).args(arguments);
        command
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["-w", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn keys(&self) {
        for (key, value) in [("fruit/apple", "red"), ("fruit/pear", "green"), ("leaf", "brown")] {
            assert_eq!(self.run(&["put", key, value]), "OK\n");
        }
        assert_eq!(self.run(&["get", "leaf"]), "leaf\nbrown\n");
        assert_eq!(self.run(&["get", "nothing"]), "");
        let fruits = self.run(&["get", "--prefix", "fruit/"]);
        assert_eq!(fruits, "fruit/apple\nred\nfruit/pear\ngreen\n");
        assert_eq!(self.run(&["get", "--prefix", "fruit/", "--limit", "1"]), "fruit/apple\nred\n");
        assert_eq!(self.run(&["get", "leaf", "--consistency", "s"]), "leaf\nbrown\n");
        let reply = self.json(&["get", "leaf"]);
        let kv = &reply["kvs"][0];
        assert_eq!((&kv["key"], &kv["value"]), (&"bGVhZg==".into(), &"YnJvd24=".into()));
        assert_eq!((kv["version"].as_i64(), reply["count"].as_i64()), (Some(1), Some(1)));
        assert_eq!(kv["mod_revision"], reply["header"]["revision"]);
        assert_eq!(self.run(&["put", "leaf", "green", "--prev-kv"]), "OK\nleaf\nbrown\n");
        assert_eq!(self.run(&["put", "gone", "soon"]), "OK\n");
        assert_eq!(self.run(&["del", "gone"]).trim(), "1");
        assert_eq!(self.run(&["del", "gone"]).trim(), "0");
    }

    fn transactions(&self) {
        let txn = |script: &str| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), script).expect("a file");
            let mut command = self.command(&["txn"]);
            command.stdin(std::fs::File::open(file.path()).expect("a file"));
            let output = command.output().expect("etcdctl starts");
            let error = crate::support::text(&output.stderr);
            assert!(output.status.success(), "{error}");
            crate::support::text(&output.stdout)
        };
        let done = txn("value(\"leaf\") = \"green\"\n\nput tree oak\nget tree\n\nget leaf\n\n");
        assert!(done.starts_with("SUCCESS"), "{done}");
        assert!(done.contains("tree\noak"), "a transaction sees its own writes: {done}");
        let other = txn("version(\"tree\") > \"1\"\n\ndel tree\n\nput bush rose\n\n");
        assert!(other.starts_with("FAILURE"), "{other}");
        assert_eq!(self.run(&["get", "bush", "--print-value-only"]), "rose\n");
    }

    fn cluster(&self) {
        let health = crate::support::run(&mut self.command(&["endpoint", "health"]));
        assert!(health.status.success(), "{health:?}");
        let status = self.json(&["endpoint", "status"]);
        let status = &status[0]["Status"];
        let leader = status["leader"].as_u64().expect("a leader");
        assert!((1..=3).contains(&leader), "{status}");
        assert!(status["raftAppliedIndex"].as_u64() > Some(0), "{status}");
        let members = self.json(&["member", "list"]);
        assert_eq!(members["members"].as_array().map(Vec::len), Some(3), "{members}");
        assert_eq!(members["members"][2]["name"], "node-3");
    }
}
