//! The real program on damaged folders: it refuses to start and names the file, or nothing is
//! lost. It never starts on less than it had.
#![cfg(feature = "rocksdb")]

use crate::support::{Nodes, PROTOCOLS, agreed, connect, one_at_a_time, put, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const DATA: &str = "data-1";

/// What happens to a file. Places are in percent of its length.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(usize),
    /// The page of 4 KiB in which the place lies.
    Zero(usize),
    Cut(usize),
    /// Two pages of 4 KiB, here and behind, change places.
    Swap(usize),
    Delete,
}

/// What the node may do with it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// Nothing but refuse it by its name.
    Refused,
    /// Refuse, or start with all it had: not every byte of such a file counts.
    RefusedOrWhole,
}
use Damage::{Cut, Delete, Flip, Swap, Zero};
use Verdict::{Refused, RefusedOrWhole};

/// The files by the beginning and the end of their paths in the data folder; the longest counts.
const DAMAGES: [(&str, &str, Damage, Verdict); 30] = [
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
fn damaged_folders_are_refused_by_name_and_never_read_as_less() {
    let _turn = one_at_a_time();
    for protocol in PROTOCOLS {
        let mut victim = Victim::new(protocol);
        let mut refused = 0;
        for (begin, end, damage, verdict) in DAMAGES {
            refused += usize::from(victim.suffers(begin, end, damage, verdict));
        }
        refused += usize::from(victim.loses_its_log());
        println!("{protocol}: {} damaged folders, {refused} refused", DAMAGES.len() + 1);
    }
}

/// A killed node and what it had acknowledged.
struct Victim {
    nodes: Nodes,
    whole: PathBuf,
    holds: BTreeMap<String, String>,
}

impl Victim {
    /// Killed twice, so that its log stands in a table and in a write-ahead log.
    fn new(protocol: &str) -> Self {
        let mut nodes = Nodes::alone(protocol);
        for life in ["one", "two"] {
            nodes.start(0);
            wait_for("it serves", PATIENCE, || agreed(nodes.ports[0]));
            write(nodes.ports[0], life);
            nodes.kill(0);
        }
        let whole = nodes.file("whole");
        copy(&nodes.file(DATA), &whole);
        let mut victim = Self { nodes, whole, holds: BTreeMap::new() };
        victim.holds = victim.start().expect("nothing is damaged yet");
        assert_eq!(victim.holds.len(), 60);
        victim
    }

    /// Starts the node on the folder as it is: what it serves, or how it refuses to.
    fn start(&mut self) -> Result<BTreeMap<String, String>, String> {
        self.nodes.start(0);
        let (port, nodes) = (self.nodes.ports[0], &mut self.nodes);
        let ended =
            wait_for("the node serves or ends", PATIENCE, || match nodes.process(0).ended() {
                Some(status) => Some(Err(status)),
                None => agreed(port).map(Ok),
            });
        let result = ended.map_err(|status| {
            assert_eq!(status.code(), Some(1), "{status}");
            nodes.last_words(0)
        });
        nodes.kill(0);
        result
    }

    /// Says whether the damage was refused.
    fn suffers(&mut self, begin: &str, end: &str, damage: Damage, verdict: Verdict) -> bool {
        self.restore();
        let data = self.nodes.file(DATA);
        let file = largest(&data, begin, end);
        damage.inflict(&file);
        let name = file.strip_prefix(&data).expect("a file of the folder").display().to_string();
        let what = format!("{damage:?} of {name}");
        match self.start() {
            Err(words) => {
                assert_names(&words, &name, (damage, verdict), &what);
                true
            }
            Ok(held) => {
                assert_eq!(verdict, RefusedOrWhole, "{what}: it starts");
                assert_eq!(held, self.holds, "{what}: it starts with something else");
                false
            }
        }
    }

    /// A node without its votes is no new node, as long as anything tells that it is an old one.
    fn loses_its_log(&mut self) -> bool {
        self.restore();
        for part in ["log", "state"] {
            fs::remove_dir_all(self.nodes.file(DATA).join(part)).expect("a folder");
        }
        let words = self.start().expect_err("it starts as an empty voter");
        assert!(words.contains(&format!("{DATA}/log")), "{words}");
        true
    }

    fn restore(&self) {
        let data = self.nodes.file(DATA);
        fs::remove_dir_all(&data).expect("a folder");
        copy(&self.whole, &data);
    }
}

/// The message names the file; the folder where the file is missing. Where damage need not be
/// noticed at all, a database may notice it by another file's content.
fn assert_names(words: &str, name: &str, (damage, verdict): (Damage, Verdict), what: &str) {
    let wanted = match (damage, verdict) {
        (_, RefusedOrWhole) => name.split('/').next().expect("a part"),
        (Delete, Refused) => name.rsplit_once('/').map_or("", |(folder, _)| folder),
        _ => name,
    };
    let wanted = format!("{DATA}/{wanted}");
    assert!(words.contains(wanted.trim_end_matches('/')), "{what}: {words}");
}

fn write(port: u16, life: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut client = connect(port, PATIENCE);
        for number in 0..30 {
            let (key, value) = (format!("{life}/{number}"), format!("{number} ").repeat(500));
            put(&mut client, &key, &value).await.expect("the node serves");
        }
    });
}

impl Damage {
    fn inflict(self, file: &Path) {
        const PAGE: usize = 4096;
        let mut bytes = fs::read(file).expect("a file");
        let place = |percent: usize| bytes.len() * percent / 100;
        match self {
            Flip(percent) => {
                let at = place(percent);
                bytes[at] ^= 0x10;
            }
            Zero(percent) => {
                let from = place(percent) / PAGE * PAGE;
                let to = bytes.len().min(from + PAGE);
                bytes[from..to].fill(0);
            }
            Cut(percent) => bytes.truncate(place(percent)),
            Swap(percent) => {
                let at = place(percent);
                let (front, back) = bytes.split_at_mut(at + PAGE);
                front[at..].swap_with_slice(&mut back[..PAGE]);
            }
            Delete => return fs::remove_file(file).expect("a file"),
        }
        fs::write(file, bytes).expect("a file");
    }
}

/// The longest file whose path in the folder begins and ends so.
fn largest(data: &Path, begin: &str, end: &str) -> PathBuf {
    let folder = data.join(begin);
    let folder = if begin.ends_with('/') { &folder } else { folder.parent().expect("a folder") };
    let files =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let fits = |path: &PathBuf| {
        let name = path.strip_prefix(data).expect("below it").to_string_lossy().into_owned();
        path.is_file() && name.starts_with(begin) && name.ends_with(end)
    };
    let length = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    files.filter(fits).max_by_key(length).unwrap_or_else(|| panic!("no {begin}*{end}"))
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
