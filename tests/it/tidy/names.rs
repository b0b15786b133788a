//! Rules for names and signatures: no two public types of one name, no tuple parameters; and the rule that
//! only one place assembles a replica.

use super::tree::{Finding, Rule, Tree, assert_clean, assert_finds, finding};
use std::collections::BTreeMap;

/// Crates of sibling protocols. Types of the same role have the same name in each.
const PROTOCOLS: [&str; 3] = ["basic-paxos", "multi-paxos", "raft"];

/// Crates whose type names may also exist elsewhere: the checker is independent of the code that it
/// checks.
const INDEPENDENT: [&str; 1] = ["checker"];

/// Public types that share a name, with the reason.
const SHARED: [(&str, &str); 3] = [
    ("HardState", "a protocol's type implements the trait of synod-consensus"),
    ("Message", "a protocol's type implements the trait of synod-consensus"),
    ("Timing", "protocols with a leader use that of synod-consensus; Basic Paxos has its own"),
];

/// Returns the code of a source, without its unit tests.
fn shipped(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

/// Returns the crate of a source below `src/`.
fn crate_of(path: &str) -> Option<&str> {
    let (name, rest) = path.strip_prefix("crates/")?.split_once('/')?;
    rest.starts_with("src/").then_some(name)
}

/// Returns the name of the public type that a line declares.
fn declared(line: &str) -> Option<&str> {
    let item = line.trim_start().strip_prefix("pub ")?;
    let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
    let rest = kinds.iter().find_map(|kind| item.strip_prefix(kind))?;
    let name = rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next();
    // The name is empty in a macro, where it is a variable.
    name.filter(|name| !name.is_empty())
}

/// Finds public types of the same name, except those of the same role in sibling protocols.
fn unique_types(tree: &Tree) -> Vec<Finding> {
    let mut places: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (path, text) in tree.sources() {
        let Some(owner) = crate_of(path).filter(|owner| !INDEPENDENT.contains(owner)) else {
            continue;
        };
        for name in shipped(text).lines().filter_map(declared) {
            places.entry(name).or_default().push((owner, path));
        }
    }
    let mut findings = Vec::new();
    for (name, places) in places {
        let mut siblings = PROTOCOLS.map(|sibling| (sibling, 0)).to_vec();
        let mut others = 0;
        for (owner, _) in &places {
            match siblings.iter_mut().find(|(sibling, _)| sibling == owner) {
                Some((_, count)) => *count += 1,
                None => others += 1,
            }
        }
        let in_siblings = siblings.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let is_shared = SHARED.iter().any(|(shared, _)| *shared == name);
        if in_siblings > 1 || others + usize::from(in_siblings > 0 && !is_shared) > 1 {
            let paths: Vec<_> = places.iter().map(|(_, path)| *path).collect();
            let what = format!("{name} is declared in {}", paths.join(" and "));
            findings.push(finding(places[0].1, what));
        }
    }
    findings
}

/// Finds tuple parameters: a signature should name its parts.
fn named_parameters(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.sources().filter(|(path, _)| crate_of(path).is_some()) {
        for (number, line) in shipped(text).lines().enumerate() {
            // `(a, b): (A, B)`; closures begin their patterns with a bar.
            for (at, _) in line.match_indices("): (") {
                let Some(open) = line[..at].rfind('(') else { continue };
                let before = line[..open].trim_end();
                let is_list = line[open..at].contains(',');
                if is_list && !before.ends_with("let") && !before.ends_with('|') {
                    findings.push(finding(path, format!("line {}: tuple parameter", number + 1)));
                }
            }
        }
    }
    findings
}

/// Finds code that opens a replica's core directly. Only the builder of `synod-runtime` may assemble a replica,
/// and the simulator, which has its own clock and network.
fn one_assembly(tree: &Tree) -> Vec<Finding> {
    const PLACES: [&str; 2] = ["crates/runtime/src/builder.rs", "crates/sim/src/cluster/node.rs"];
    let opens = |text: &str| text.contains("ReplicaCore::open(") || text.contains("ReplicaCore::<");
    let others = tree.sources().filter(|(path, _)| {
        !path.starts_with("crates/replica/") && !path.starts_with("tests/it/tidy/")
    });
    others
        .filter(|(path, text)| opens(text) && !PLACES.contains(path))
        .map(|(path, _)| finding(path, "opens a replica's core: use synod_runtime::Replica"))
        .collect()
}

#[test]
fn names_are_tidy() {
    assert_clean(&[unique_types as Rule, named_parameters, one_assembly]);
}

#[test]
fn second_assembly_is_found() {
    let second = Tree::planted("crates/node/src/a.rs", "let core = ReplicaCore::open(now);\n");
    assert_finds(one_assembly, &second, "synod_runtime::Replica");
    let simulated = Tree::planted("crates/sim/src/cluster/node.rs", "ReplicaCore::open(now);\n");
    assert_eq!(one_assembly(&simulated), []);
}

#[test]
fn two_types_of_one_name_are_found() {
    let one = Tree::planted("crates/kv/src/a.rs", "//! A.\npub struct Report;\n");
    assert_eq!(unique_types(&one), []);
    let two = one
        .clone()
        .with("crates/sim/src/b.rs", "//! B.\npub(crate) enum X {}\npub enum Report {}\n");
    assert_finds(unique_types, &two, "Report is declared in");
    let within = Tree::planted("crates/raft/src/a.rs", "pub struct Limits;\npub trait Limits {}\n");
    assert_finds(unique_types, &within, "Limits");
    let siblings = Tree::planted("crates/raft/src/a.rs", "pub struct Config;\n")
        .with("crates/multi-paxos/src/a.rs", "pub struct Config;\n");
    assert_eq!(unique_types(&siblings), []);
    let third = siblings.with("crates/node/src/a.rs", "pub struct Config {}\n");
    assert_finds(unique_types, &third, "Config");
    let checker = one.with("crates/checker/src/b.rs", "pub struct Report;\n");
    assert_eq!(unique_types(&checker), [], "the checker is independent");
}

#[test]
fn tuple_parameter_is_found() {
    let bad = "fn f(\n    (from, to): (u64, u64),\n) {}\n";
    assert_finds(named_parameters, &Tree::planted("crates/kv/src/a.rs", bad), "tuple");
    for fine in
        ["let (a, b): (u8, u8) = x;\n", "let f = |(a, b): (u8, u8)| a;\n", "fn f(a: (u8, u8)) {}\n"]
    {
        assert_eq!(named_parameters(&Tree::planted("crates/kv/src/a.rs", fine)), [], "{fine}");
    }
}
