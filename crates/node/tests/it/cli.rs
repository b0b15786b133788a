//! The command line: each error is one line on standard error, with a non-zero exit code.

use crate::support::{
    Nodes, Shape, failure, free_ports, one_at_a_time, run, status, stdout, synod, wait_for,
};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

const STORE: &str = if cfg!(feature = "rocksdb") { "rocksdb" } else { "memory" };
const TIMEOUT: Duration = Duration::from_secs(60);

fn nodes(store: &str) -> Nodes {
    let protocol = synod_node::protocol::ProtocolKind::default().name();
    Nodes::new(&Shape { protocol, store, settings: "" }, |_, _, _| None)
}

#[test]
fn port_in_use_is_named_in_the_error() {
    let nodes = nodes("memory");
    let tcp = TcpListener::bind(("127.0.0.1", nodes.ports[0])).expect("a free port");
    let error = failure(&mut nodes.command(0));
    let expected = format!("cannot listen for clients on 127.0.0.1:{} (TCP)", nodes.ports[0]);
    assert!(error.contains(&expected), "{error}");
    drop(tcp);
    let _udp = UdpSocket::bind(("127.0.0.1", nodes.peers[0])).expect("a free port");
    let error = failure(&mut nodes.command(0));
    let expected = format!("cannot listen for peers on 127.0.0.1:{} (UDP)", nodes.peers[0]);
    assert_eq!(error.matches(&expected).count(), 1, "{error}");
}

#[test]
fn unknown_setting_is_rejected_in_file_and_environment() {
    let nodes = nodes("memory");
    let file = nodes.file("1.toml");
    let text = fs::read_to_string(&file).expect("settings");
    fs::write(&file, format!("shoe-size = 44\n{text}")).expect("settings");
    let error = failure(&mut nodes.command(0));
    assert!(error.contains("1.toml:1: unknown field `shoe-size`"), "{error}");
    let error = failure(nodes.command(1).env("SYNOD_SHOE_SIZE", "44"));
    assert!(error.contains("unknown setting in the environment: SYNOD_SHOE_SIZE"), "{error}");
    let error = failure(synod().args(["start", "--config", "/nowhere/node.toml"]));
    assert!(error.contains("cannot read the settings file /nowhere/node.toml"), "{error}");
}

#[test]
fn flag_overrides_environment_and_environment_overrides_file() {
    let nodes = nodes("memory");
    // Each layer names an unknown protocol, so the error shows which layer was used.
    let file = nodes.file("1.toml");
    let text = fs::read_to_string(&file).expect("settings");
    fs::write(&file, text.replace("\"raft\"", "\"from-file\"")).expect("settings");
    let used = |error: String| {
        let name = error.split('"').nth(1).expect("a quoted name").to_owned();
        assert!(error.contains("known: raft"), "{error}");
        name
    };
    let mut command = nodes.command(0);
    assert_eq!(used(failure(&mut command)), "from-file");
    assert_eq!(
        used(failure(command.env("SYNOD_PROTOCOL", "from-environment"))),
        "from-environment"
    );
    assert_eq!(used(failure(command.args(["--protocol", "from-flag"]))), "from-flag");
}

#[test]
fn invalid_certificates_are_rejected() {
    let nodes = nodes("memory");
    let error = failure(nodes.command(0).args(["--cert", "/nowhere/node.pem"]));
    assert!(error.contains("cannot read the certificate /nowhere/node.pem"), "{error}");
    let another = nodes.file("2.pem");
    let error = failure(nodes.command(0).arg("--cert").arg(another));
    assert!(error.contains("node 2") || error.contains("key"), "{error}");
    let error = failure(nodes.command(0).args(["--cluster", "8"]));
    assert!(error.contains("node 1 of cluster 7"), "{error}");
    assert!(error.contains("node 1 of cluster 8"), "{error}");
    let key = nodes.file("1.key");
    let error = failure(nodes.command(0).arg("--ca").arg(key));
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn error_for_an_unknown_name_lists_the_known_names() {
    let error = failure(synod().args(["sim", "--protocol", "flood"]));
    assert!(error.contains("unknown protocol \"flood\"; known: raft"), "{error}");
    let output = run(synod().args(["dev", "--store", "paper"]));
    let error = crate::support::text(&output.stderr);
    assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
    assert!(error.contains("rocksdb") && error.contains("memory"), "{error}");
}

#[cfg(not(feature = "rocksdb"))]
#[test]
fn build_without_rocksdb_rejects_that_store() {
    let nodes = nodes("rocksdb");
    let error = failure(&mut nodes.command(0));
    assert!(error.contains("built without RocksDB; available stores: memory"), "{error}");
}

#[cfg(feature = "rocksdb")]
#[test]
fn foreign_data_folder_is_rejected_unchanged() {
    let nodes = nodes("rocksdb");
    let data = nodes.file("data-1");
    fs::write(&data, "a file").expect("a file");
    let error = failure(&mut nodes.command(0));
    assert!(error.contains("cannot create the data folder"), "{error}");
    fs::remove_file(&data).expect("a file");

    fs::create_dir(&data).expect("a folder");
    fs::write(data.join("diary.txt"), "dear").expect("a file");
    let error = failure(&mut nodes.command(0));
    assert!(error.contains("not a Synod data folder"), "{error}");
    assert_eq!(fs::read_dir(&data).expect("a folder").count(), 1, "the folder is unchanged");
    fs::remove_dir_all(&data).expect("a folder");

    fs::create_dir(&data).expect("a folder");
    fs::write(data.join("protocol"), "paxos\n").expect("a file");
    let error = failure(&mut nodes.command(0));
    assert!(error.contains("the data is of the protocol \"paxos\", not \"raft\""), "{error}");
}

#[cfg(feature = "rocksdb")]
#[test]
fn store_in_use_or_of_another_node_cluster_or_format_is_rejected() {
    let _turn = one_at_a_time();
    let mut nodes = nodes("rocksdb");
    nodes.start(0);
    wait_for("the node serves", TIMEOUT, || nodes.report(0));
    let error = failure(&mut {
        let mut second = nodes.command(0);
        let ports = free_ports(2);
        second.args(["--listen-clients", &format!("127.0.0.1:{ports}")]);
        second.args(["--listen-peers", &format!("127.0.0.1:{}", ports + 1)]);
        second
    });
    assert!(error.contains("in use"), "two processes on one folder: {error}");
    nodes.process(0).signal("TERM");
    assert_eq!(nodes.process(0).wait(TIMEOUT).code(), Some(0));

    // Node 2's certificate is valid, but the folder is node 1's.
    let data = nodes.file("data-1");
    let error = failure(nodes.command(1).arg("--data").arg(&data));
    assert!(error.contains("belongs to node 1 of cluster 7, not to node 2"), "{error}");

    // With a shorter member list the node could elect itself and commit entries without its peers.
    let alone = "1=127.0.0.1:1,http://127.0.0.1:2";
    let error = failure(nodes.command(0).args(["--members", alone]));
    assert!(error.contains("the data is of a cluster of the nodes 1 2 3, not 1"), "{error}");

    let marker = data.join("log/SYNOD");
    let text = fs::read_to_string(&marker).expect("the store's identity");
    let (body, _) = text.split_once("checksum ").expect("the last line");
    let body = body.replace("format 1\n", "format 99\n");
    let sum = crc32fast::hash(body.as_bytes());
    fs::write(&marker, format!("{body}checksum {sum:08x}\n")).expect("a file");
    let error = failure(&mut nodes.command(0));
    assert!(error.contains("written in format 99"), "{error}");
}

#[test]
fn sigterm_drains_and_exits_with_0() {
    let _turn = one_at_a_time();
    let mut nodes = nodes(STORE);
    nodes.start_all();
    nodes.leader(&[0, 1, 2]);
    for node in 0..3 {
        nodes.process(node).signal("TERM");
    }
    for node in 0..3 {
        assert_eq!(nodes.process(node).wait(TIMEOUT).code(), Some(0), "node {}", node + 1);
    }
}

#[test]
fn client_error_lists_the_unreachable_endpoints() {
    let port = free_ports(1);
    let endpoint = format!("127.0.0.1:{port}");
    let error = failure(synod().args(["put", "--endpoints", &endpoint, "a", "b"]));
    assert_eq!(error, format!("synod: cannot connect to any endpoint: {endpoint}"));
    let output = run(synod().args(["status", "--endpoints", &endpoint]));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(status(port), None);
}

#[test]
fn node_with_issued_certificates_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let cert = |arguments: &[&str]| stdout(synod().arg("cert").args(arguments));
    let made = cert(&["ca", "--cluster", "7", "--out", &at("")]);
    assert!(made.starts_with("cluster 7\nwrote "), "{made}");
    let (ca, ca_key, out) = (at("ca.pem"), at("ca.key"), at(""));
    let signer = ["--ca", &ca, "--ca-key", &ca_key, "--out", &out];
    cert(&[&["node", "--node", "1", "--cluster", "7"], &signer[..]].concat());
    cert(&[&["client", "--name", "backup"], &signer[..]].concat());
    let port = free_ports(1);
    let _turn = one_at_a_time();
    let node = synod()
        .args(["start", "--node", "1", "--cluster", "7", "--store", "memory"])
        .args(["--ca", &ca, "--cert", &at("node-1.pem"), "--key", &at("node-1.key")])
        .args(["--members", &format!("1=127.0.0.1:{port},http://127.0.0.1:{port}")])
        .args(["--listen-clients", &format!("127.0.0.1:{port}")])
        .args(["--listen-peers", &format!("127.0.0.1:{port}"), "--log", "warn"])
        .spawn();
    let _node = crate::support::Guarded(node.expect("the program starts"));
    wait_for("a single node leads", TIMEOUT, || {
        status(port).filter(|report| report.role == "leader")
    });
    let endpoint = format!("127.0.0.1:{port}");
    let put = stdout(synod().args(["put", "--endpoints", &endpoint, "a", "-1"]));
    assert_eq!(put, "OK\n");
}

#[test]
fn sim_json_does_not_depend_on_the_number_of_threads() {
    let run = |jobs: &str| {
        let campaign = ["sim", "--protocol", "raft", "--seeds", "5..", "--hours", "0.1", "--json"];
        let printed = stdout(synod().args(campaign).args(["--jobs", jobs]));
        let summary: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        let summary = summary.as_object().expect("an object").clone();
        for key in ["speed", "events_per_s"] {
            assert!(summary[key].as_f64() > Some(0.0), "{key} in {printed}");
        }
        ["protocol", "seeds", "counted", "hours", "ops", "faults", "violations"]
            .map(|key| summary[key].clone())
    };
    let [protocol, seeds, counted, hours, ops, faults, violations] = run("1");
    assert_eq!((protocol, violations), ("raft".into(), 0.into()));
    assert!(hours.as_f64() >= Some(0.1) && counted.as_u64() <= seeds.as_u64());
    assert!(ops.as_u64() > Some(1000) && faults["crash"].as_u64() > Some(0), "{faults}");
    assert_eq!([seeds, counted, hours, ops, faults], run("3")[1..6]);
}

#[test]
fn sim_summary_shows_the_seeds_and_hours_that_count() {
    let printed = stdout(synod().args(["sim", "--protocol", "multi-paxos", "--seeds", "7"]));
    assert!(printed.contains(" of 1 seeds ("), "{printed}");
    assert!(printed.ends_with("violations: 0\n"), "{printed}");
    let output = run(synod().args(["sim", "--seeds", "7", "--hours", "1"]));
    let error = crate::support::text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("of 1.000 simulated hours count"), "{error}");
}

#[test]
fn script_of_a_failure_is_replayed_with_a_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("failure.txt");
    let replay = || failure(synod().arg("sim").arg("--replay").arg(&file));
    let error = replay();
    assert!(error.contains("cannot read"), "{error}");
    fs::write(&file, "protocol raft\nseed many\n").expect("a file");
    let error = replay();
    assert!(error.contains("is not a script of a failure: line 2: \"seed many\""), "{error}");

    let script = "protocol raft\nseed 1\nnodes 3\nfault_ms 5000\nrecovery_ms 0\nviolation two leaders\n\n\
                  at 2.000000000 crash 2 keeps all all down 0.500000000\n";
    fs::write(&file, script).expect("a file");
    let output = run(synod().arg("sim").arg("--replay").arg(&file).args(["--trace", "9"]));
    let printed = crate::support::text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("2.000000 s  n2 crashes") && printed.contains("2.500000 s  n2 starts"),
        "{printed}"
    );
    assert!(printed.contains("synod: "), "{printed}");
    assert!(printed.contains("does not reproduce its failure"), "{printed}");
}

#[test]
fn version_is_printed() {
    let version = stdout(synod().arg("--version"));
    assert_eq!(version, format!("synod {}\n", env!("CARGO_PKG_VERSION")));
}
