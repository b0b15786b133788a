//! A node with a damaged data folder refuses to start and names the file, or starts with all its data. It
//! never starts with only a part of them.
#![cfg(feature = "rocksdb")]

use crate::support::{Nodes, PROTOCOLS, connect, one_at_a_time, put, read_all, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(60);
const DATA: &str = "data-1";

/// Damage to a file. Offsets are in percent of its length.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(usize),
    /// Zeroes the page of 4 KiB at the offset.
    Zero(usize),
    Cut(usize),
    /// Swaps the 4 KiB at the offset with the next 4 KiB.
    Swap(usize),
    Delete,
}

/// Permitted result of a start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// The node refuses to start and names the file.
    Refused,
    /// The node refuses to start, or starts with all its data: not every byte of such a file is in
    /// use.
    RefusedOrWhole,
}
use Damage::{Cut, Delete, Flip, Swap, Zero};
use Expected::{Refused, RefusedOrWhole};

/// Damaged files, by prefix and suffix of their paths in the data folder. The longest file that
/// matches is damaged.
const DAMAGES: [(&str, &str, Damage, Expected); 30] = [
    ("log/db/", ".log", Flip(5), Refused),
    ("log/db/", ".log", Flip(50), Refused),
    ("log/db/", ".log", Flip(99), Refused),
    ("log/db/", ".log", Zero(40), Refused),
    ("log/db/", ".log", Cut(50), Refused),
    ("log/db/", ".log", Cut(99), Refused),
    ("log/db/", ".log", Swap(30), RefusedOrWhole),
    ("log/db/", ".log", Delete, Refused),
    ("log/db/", ".sst", Flip(1), Refused),
    ("log/db/", ".sst", Flip(40), Refused),
    ("log/db/", ".sst", Flip(90), RefusedOrWhole),
    ("log/db/", ".sst", Zero(20), Refused),
    ("log/db/", ".sst", Cut(99), Refused),
    ("log/db/", ".sst", Delete, Refused),
    ("log/db/MANIFEST", "", Flip(50), RefusedOrWhole),
    ("log/db/MANIFEST", "", Zero(50), RefusedOrWhole),
    ("log/db/MANIFEST", "", Cut(50), RefusedOrWhole),
    ("log/db/MANIFEST", "", Delete, Refused),
    ("log/db/CURRENT", "", Flip(50), RefusedOrWhole),
    ("log/db/CURRENT", "", Cut(0), RefusedOrWhole),
    ("log/db/CURRENT", "", Delete, Refused),
    ("log/HIGH", "", Delete, Refused),
    ("log/SYNOD", "", Flip(50), Refused),
    ("log/SYNOD", "", Delete, Refused),
    ("state/db/", ".sst", Flip(20), RefusedOrWhole),
    ("state/db/", ".sst", Delete, RefusedOrWhole),
    ("state/db/MANIFEST", "", Delete, Refused),
    ("state/db/CURRENT", "", Delete, Refused),
    ("state/SYNOD", "", Delete, Refused),
    ("protocol", "", Delete, Refused),
];

#[test]
fn node_on_a_damaged_folder_refuses_to_start_or_has_all_its_data() {
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let mut node = DamagedNode::new(protocol);
        let mut refused = 0;
        for (prefix, suffix, damage, expected) in DAMAGES {
            refused += usize::from(node.check_damage(prefix, suffix, damage, expected));
        }
        refused += usize::from(node.check_lost_log());
        println!("{protocol}: {} damaged folders, {refused} refused", DAMAGES.len() + 1);
    }
}

/// A killed node, an intact copy of its data folder, and its acknowledged writes.
struct DamagedNode {
    nodes: Nodes,
    intact: PathBuf,
    acknowledged: BTreeMap<String, String>,
}

impl DamagedNode {
    /// Writes and kills the node twice, so that one part of its log is in an SST file of RocksDB, and the
    /// other in RocksDB's write-ahead log.
    fn new(protocol: &str) -> Self {
        let mut nodes = Nodes::single(protocol);
        for run in ["one", "two"] {
            nodes.start(0);
            wait_for("the node serves", TIMEOUT, || read_all(nodes.ports[0]));
            write(nodes.ports[0], run);
            nodes.kill(0);
        }
        let intact = nodes.file("intact");
        copy(&nodes.file(DATA), &intact);
        let mut node = Self { nodes, intact, acknowledged: BTreeMap::new() };
        node.acknowledged = node.start().expect("the folder is intact");
        assert_eq!(node.acknowledged.len(), 60);
        node
    }

    /// Starts the node on the folder as it is. Returns its contents, or its error.
    fn start(&mut self) -> Result<BTreeMap<String, String>, String> {
        self.nodes.start(0);
        let (port, nodes) = (self.nodes.ports[0], &mut self.nodes);
        let ended =
            wait_for("the node serves or ends", TIMEOUT, || match nodes.process(0).ended() {
                Some(status) => Some(Err(status)),
                None => read_all(port).map(Ok),
            });
        let result = ended.map_err(|status| {
            assert_eq!(status.code(), Some(1), "{status}");
            nodes.error_line(0)
        });
        nodes.kill(0);
        result
    }

    /// Damages a file and starts the node. Returns whether it refused to start.
    fn check_damage(
        &mut self,
        prefix: &str,
        suffix: &str,
        damage: Damage,
        expected: Expected,
    ) -> bool {
        self.restore();
        let data = self.nodes.file(DATA);
        let file = longest_file(&data, prefix, suffix);
        damage.apply(&file);
        let name = file.strip_prefix(&data).expect("a file of the folder").display().to_string();
        let what = format!("{damage:?} of {name}");
        match self.start() {
            Err(error) => {
                assert_names(&error, &name, (damage, expected), &what);
                true
            }
            Ok(contents) => {
                assert_eq!(expected, RefusedOrWhole, "{what}: the node starts");
                assert_eq!(contents, self.acknowledged, "{what}: the node starts with other data");
                false
            }
        }
    }

    /// Removes the log with the node's votes: the node must not start as a new one.
    fn check_lost_log(&mut self) -> bool {
        self.restore();
        for part in ["log", "state"] {
            fs::remove_dir_all(self.nodes.file(DATA).join(part)).expect("a folder");
        }
        let error = self.start().expect_err("the node starts without its votes");
        assert!(error.contains(&format!("{DATA}/log")), "{error}");
        true
    }

    fn restore(&self) {
        let data = self.nodes.file(DATA);
        fs::remove_dir_all(&data).expect("a folder");
        copy(&self.intact, &data);
    }
}

/// Checks that the error names the file, or the folder of a missing file. If the damage need not be
/// detected, the database may detect it through another file, so the store's name is enough.
fn assert_names(error: &str, name: &str, (damage, expected): (Damage, Expected), what: &str) {
    let part = match (damage, expected) {
        (_, RefusedOrWhole) => name.split('/').next().expect("a part"),
        (Delete, Refused) => name.rsplit_once('/').map_or("", |(folder, _)| folder),
        _ => name,
    };
    let path = format!("{DATA}/{part}");
    assert!(error.contains(path.trim_end_matches('/')), "{what}: {error}");
}

fn write(port: u16, run: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut client = connect(port, TIMEOUT);
        for number in 0..30 {
            let (key, value) = (format!("{run}/{number}"), format!("{number} ").repeat(500));
            put(&mut client, &key, &value).await.expect("the node serves");
        }
    });
}

impl Damage {
    fn apply(self, file: &Path) {
        const PAGE: usize = 4096;
        let mut bytes = fs::read(file).expect("a file");
        let offset = |percent: usize| bytes.len() * percent / 100;
        match self {
            Flip(percent) => {
                let at = offset(percent);
                bytes[at] ^= 0x10;
            }
            Zero(percent) => {
                let from = offset(percent) / PAGE * PAGE;
                let to = bytes.len().min(from + PAGE);
                bytes[from..to].fill(0);
            }
            Cut(percent) => bytes.truncate(offset(percent)),
            Swap(percent) => {
                let at = offset(percent);
                let (front, back) = bytes.split_at_mut(at + PAGE);
                front[at..].swap_with_slice(&mut back[..PAGE]);
            }
            Delete => return fs::remove_file(file).expect("a file"),
        }
        fs::write(file, bytes).expect("a file");
    }
}

/// Returns the longest file whose path in the folder has this prefix and suffix.
fn longest_file(data: &Path, prefix: &str, suffix: &str) -> PathBuf {
    let folder = data.join(prefix);
    let folder = if prefix.ends_with('/') { &folder } else { folder.parent().expect("a folder") };
    let files =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let matches = |path: &PathBuf| {
        let name = path.strip_prefix(data).expect("below it").to_string_lossy().into_owned();
        path.is_file() && name.starts_with(prefix) && name.ends_with(suffix)
    };
    let length = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    files.filter(matches).max_by_key(length).unwrap_or_else(|| panic!("no {prefix}*{suffix}"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file");
        }
    }
}
