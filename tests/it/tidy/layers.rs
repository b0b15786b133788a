//! Rules for dependencies between crates, read from the manifests.

use super::tree::{Finding, Rule, Tree, assert_clean, assert_finds, finding};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// The workspace crates that each crate may depend on. `node` assembles them and may use all.
const INTERNAL: [(&str, &[&str]); 14] = [
    ("types", &[]),
    ("consensus", &["types"]),
    ("raft", &["types", "consensus"]),
    ("multi-paxos", &["types", "consensus"]),
    ("basic-paxos", &["types", "consensus"]),
    ("storage", &["types"]),
    ("transport", &["types"]),
    ("replica", &["types", "consensus", "storage"]),
    ("runtime", &["types", "consensus", "replica", "storage", "transport"]),
    ("kv", &["types", "consensus"]),
    ("etcd-api", &["types", "consensus", "kv"]),
    ("checker", &[]),
    ("sim", &["types", "consensus", "replica", "storage", "kv", "checker"]),
    ("explore", &["types", "consensus"]),
];

/// Crates without I/O, clock, thread or runtime, each with its permitted external dependencies. Only
/// crates that draw random numbers for a protocol may depend on an RNG, never a protocol itself.
pub(super) const PURE: [(&str, &[&str]); 8] = [
    ("types", &["bytes", "serde", "postcard"]),
    ("consensus", &["bytes", "serde", "thiserror"]),
    ("raft", &["bytes", "serde", "thiserror"]),
    ("multi-paxos", &["bytes", "serde", "thiserror"]),
    ("basic-paxos", &["bytes", "serde", "thiserror"]),
    (
        "replica",
        &["bytes", "serde", "thiserror", "postcard", "crc32fast", "rand_chacha", "rand_core"],
    ),
    ("kv", &["bytes", "serde", "thiserror", "postcard"]),
    (
        "sim",
        &[
            "bytes",
            "serde",
            "thiserror",
            "postcard",
            "goldenfile",
            "goldenscript",
            "rand_chacha",
            "rand_core",
        ],
    ),
];

/// The protocols and their dependencies: `no_std` with `alloc`.
const NO_STD: [&str; 5] = ["types", "consensus", "raft", "multi-paxos", "basic-paxos"];

/// Heavy dependencies, each with the crates that may use it.
const CONFINED: [(&str, &[&str]); 6] = [
    ("tokio", &["node", "runtime", "transport", "etcd-api"]),
    ("quinn", &["transport"]),
    ("rustls", &["transport"]),
    ("rocksdb", &["storage"]),
    ("tonic", &["node", "etcd-api"]),
    ("stateright", &["explore"]),
];

/// Workspace crates on which not even the tests of a pure crate may depend, because they need an async
/// runtime or C++.
const HEAVY: [&str; 4] = ["transport", "runtime", "etcd-api", "node"];

/// Returns the crate of a manifest: `raft` for `crates/raft/Cargo.toml`.
fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")
}

/// Returns the names and values in one table of dependencies.
fn dependencies<'a>(manifest: &'a Table, table: &str) -> BTreeMap<&'a str, &'a Value> {
    let entries = manifest.get(table).and_then(Value::as_table);
    entries.into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect()
}

/// Returns the value of `name` in `map`.
fn lookup<'a>(map: &[(&str, &'a [&'a str])], name: &str) -> Option<&'a [&'a str]> {
    map.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
}

/// Finds dependencies between workspace crates that the architecture does not permit.
fn layering(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, manifest) in tree.manifests() {
        let Some(name) = crate_of(path).filter(|name| *name != "node") else { continue };
        let Some(allowed) = lookup(&INTERNAL, name) else {
            findings.push(finding(path, "unknown crate: add it to the layers"));
            continue;
        };
        for dependency in dependencies(&manifest, "dependencies").keys() {
            let Some(other) = dependency.strip_prefix("synod-") else { continue };
            if !allowed.contains(&other) {
                findings.push(finding(path, format!("{name} must not depend on {other}")));
            }
        }
    }
    findings
}

/// Finds packages whose name is not that of their folder.
fn names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, manifest) in tree.manifests() {
        let folder = crate_of(path).or_else(|| path.strip_suffix("/Cargo.toml")).unwrap_or(path);
        let name = manifest.get("package").and_then(|p| p.get("name")).and_then(Value::as_str);
        if name != Some(&format!("synod-{folder}")) {
            findings.push(finding(path, format!("named {name:?}, not after its folder")));
        }
    }
    findings
}

/// Finds external dependencies of pure crates that are not permitted.
fn purity(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, manifest) in tree.manifests() {
        let Some(allowed) = crate_of(path).and_then(|name| lookup(&PURE, name)) else { continue };
        for dependency in dependencies(&manifest, "dependencies").keys() {
            if !dependency.starts_with("synod-") && !allowed.contains(dependency) {
                findings.push(finding(path, format!("a pure crate uses {dependency}")));
            }
        }
        for table in ["dependencies", "dev-dependencies"] {
            findings.extend(heavy_below(path, &dependencies(&manifest, table)));
        }
    }
    findings
}

/// Finds dependencies that bring a runtime or C++ to a pure crate or its tests.
fn heavy_below(path: &str, dependencies: &BTreeMap<&str, &Value>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, value) in dependencies {
        let features = value.get("features").and_then(Value::as_array);
        if features.into_iter().flatten().any(|f| matches!(f.as_str(), Some("rocksdb" | "quic"))) {
            findings.push(finding(path, format!("turns on a heavy feature of {name}")));
        }
        if name.strip_prefix("synod-").is_some_and(|name| HEAVY.contains(&name)) {
            findings
                .push(finding(path, format!("depends on {name}, which needs a runtime or C++")));
        }
    }
    findings
}

/// Finds heavy dependencies of crates that must not use them, and heavy dependencies that are not optional
/// although they must be.
fn confinement(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, manifest) in tree.manifests() {
        let Some(name) = crate_of(path) else { continue };
        let dependencies = dependencies(&manifest, "dependencies");
        for (heavy, owners) in CONFINED {
            let Some(value) = dependencies.get(heavy) else { continue };
            if !owners.contains(&name) {
                findings.push(finding(path, format!("{name} must not depend on {heavy}")));
            }
            let optional = value.get("optional").and_then(Value::as_bool) == Some(true);
            if matches!(heavy, "quinn" | "rocksdb") && !optional {
                findings.push(finding(path, format!("{heavy} must be optional")));
            }
        }
    }
    findings
}

/// Finds protocol crates that are not declared `no_std`.
fn no_std(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in NO_STD {
        let path = format!("crates/{name}/src/lib.rs");
        let Some(text) = tree.get(&path) else { continue };
        let declared = text
            .lines()
            .any(|line| line == "#![no_std]" || line == "#![cfg_attr(not(test), no_std)]");
        if !declared {
            findings.push(finding(&path, "not declared no_std"));
        }
    }
    findings
}

/// Finds packages without metadata or without the workspace's lints.
fn metadata(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, manifest) in tree.manifests() {
        let package = manifest.get("package").and_then(Value::as_table);
        let has = |key: &str| package.is_some_and(|package| package.contains_key(key));
        let published =
            package.and_then(|p| p.get("publish")).and_then(Value::as_bool) != Some(false);
        let mut wanted = vec!["description", "license", "rust-version", "edition"];
        if published {
            wanted.extend(["repository", "keywords", "categories"]);
        }
        for key in wanted.into_iter().filter(|key| !has(key)) {
            findings.push(finding(path, format!("no {key}")));
        }
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if lints.and_then(Value::as_bool) != Some(true) {
            findings.push(finding(path, "does not inherit the workspace's lints"));
        }
    }
    findings
}

/// Finds libraries that do not forbid unsafe code and undocumented items.
fn attributes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.sources() {
        let is_library = path.starts_with("crates/") && path.ends_with("/src/lib.rs");
        for attribute in ["#![forbid(unsafe_code)]", "#![deny(missing_docs)]"] {
            if is_library && !text.lines().any(|line| line == attribute) {
                findings.push(finding(path, format!("lacks {attribute}")));
            }
        }
    }
    findings
}

#[test]
fn crates_are_layered() {
    assert_clean(&[layering as Rule, names, purity, confinement, no_std, metadata, attributes]);
}

#[test]
fn upward_dependency_is_found() {
    let upwards = "[dependencies]\nsynod-replica.workspace = true\n";
    assert_finds(layering, &Tree::planted("crates/raft/Cargo.toml", upwards), "replica");
    assert_finds(layering, &Tree::planted("crates/newcomer/Cargo.toml", ""), "unknown crate");
}

#[test]
fn package_name_of_another_folder_is_found() {
    let manifest = "[package]\nname = \"raft\"\n";
    assert_finds(names, &Tree::planted("crates/raft/Cargo.toml", manifest), "folder");
}

#[test]
fn impure_dependencies_are_found() {
    let plant = |text: &str| Tree::planted("crates/raft/Cargo.toml", text);
    assert_finds(purity, &plant("[dependencies]\nrand_core = \"1\"\n"), "rand_core");
    assert_finds(purity, &plant("[dependencies]\ntokio = \"1\"\n"), "tokio");
    assert_finds(purity, &plant("[dev-dependencies]\nsynod-node.workspace = true\n"), "node");
    let feature =
        "[dev-dependencies]\nsynod-storage = { version = \"1\", features = [\"rocksdb\"] }";
    assert_finds(purity, &plant(feature), "heavy feature");
}

#[test]
fn heavy_dependency_of_the_wrong_crate_is_found() {
    let plant = |path: &str, text: &str| Tree::planted(path, text);
    let tokio = plant("crates/storage/Cargo.toml", "[dependencies]\ntokio = \"1\"\n");
    assert_finds(confinement, &tokio, "must not depend on tokio");
    let rocksdb = plant("crates/storage/Cargo.toml", "[dependencies]\nrocksdb = \"1\"\n");
    assert_finds(confinement, &rocksdb, "must be optional");
}

#[test]
fn core_without_no_std_is_found() {
    assert_finds(no_std, &Tree::planted("crates/raft/src/lib.rs", "//! Raft.\n"), "no_std");
}

#[test]
fn crate_without_metadata_is_found() {
    let bare = Tree::planted("crates/raft/Cargo.toml", "[package]\nname = \"synod-raft\"\n");
    for word in ["description", "license", "rust-version", "repository", "keywords", "lints"] {
        assert_finds(metadata, &bare, word);
    }
    let lax = Tree::planted("crates/raft/src/lib.rs", "#![forbid(unsafe_code)]\n");
    assert_finds(attributes, &lax, "missing_docs");
    let unsafe_ = Tree::planted("crates/raft/src/lib.rs", "#![deny(missing_docs)]\n");
    assert_finds(attributes, &unsafe_, "unsafe_code");
}
