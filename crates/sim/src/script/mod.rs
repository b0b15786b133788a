//! Golden scripts: runs that are driven step by step.
//!
//! A script is a text file of commands and, after `---`, their output. Nothing happens by
//! itself: no timer runs out, no message arrives that a command did not ask for. Disks sync at
//! once, unless they are held.
//!
//! | command | what it does |
//! |---|---|
//! | `cluster nodes=3` | starts over with new nodes |
//! | `timeout n1 [times=2]` | lets time pass until a timer of n1 runs out, and n1 alone sees it |
//! | `deliver [n1 [n2]] [to=n2]` | hands over what is in flight (from n1, to n2), not the answers |
//! | `deliver ... keep=yes` | the same, but it will arrive once more |
//! | `settle` | hands over everything, answers too, until nothing is in flight |
//! | `drop [n1 [n2]] [to=n2]` | loses what is in flight |
//! | `propose n1 x=5` | a client of n1 puts 5 under the key x (one letter) |
//! | `read n1 x` | a client of n1 reads the key x |
//! | `hold n1`, `release n1` | n1's disk syncs no more by itself; and again |
//! | `sync n1` | n1's disk syncs once what was written |
//! | `partition n1 n2` | cuts these off from all others |
//! | `cut n1 n2` | cuts the link from n1 to n2 |
//! | `heal` | mends all cuts |
//! | `crash n1 [keep=1]` | kills n1; its disk keeps one unsynced batch (none by default) |
//! | `restart n1` | starts n1 again |
//! | `status [n1]` | role, ballot (`*`: not known to have a leader), commit, last slot |
//! | `disk n1` | what n1's disk holds for sure |
//! | `state n1` | what n1 has applied |
//!
//! All checkers of the simulator watch: a violation fails the script.

mod session;

use crate::cluster::network::links::{Link, links};
use goldenscript::{ArgumentConsumer, Command, Context, Runner};
use session::{LinkFilter, ScriptResult, ScriptSession};
use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::fs::DirEntry;
use std::path::Path;
use synod_consensus::Protocol;
use synod_types::{Membership, NodeId};

/// A script that goes on for more rounds than this never comes to rest.
const MAX_ROUNDS: usize = 1000;

/// Plays the script at `path` and compares what comes of it with what the file says. With
/// `UPDATE_GOLDENFILES=1` in the environment the file is rewritten instead.
///
/// # Errors
/// If the file cannot be read, a command is malformed, or a checker finds a violation.
///
/// # Panics
/// If the transcript differs.
pub fn run<P: Protocol>(
    path: impl AsRef<Path>,
    config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
) -> std::io::Result<()> {
    goldenscript::run(&mut ScriptSession::<P>::new(config), path)
}

/// Asserts that the scripts in `folder` are those that are `played`. A script that no test plays
/// proves nothing.
///
/// # Panics
/// If there is another one, or one is missing.
pub fn assert_all_played(folder: impl AsRef<Path>, played: &[&str]) {
    let files = std::fs::read_dir(folder).expect("a folder of scripts");
    let name = |file: std::io::Result<DirEntry>| file.expect("a script").file_name();
    let found: BTreeSet<_> = files.map(name).collect();
    assert_eq!(found, played.iter().map(OsString::from).collect());
}

/// Makes one test for each golden script in `tests/scripts` of the caller's package, with the default
/// settings of the protocol that is to play it, and a test that none is left out.
///
/// ```text
/// synod_sim::golden_scripts!(
///     SingleDecree: overtaken, livelock;
///     BasicPaxos: five_nodes_two_sides;
/// );
/// ```
#[macro_export]
macro_rules! golden_scripts {
    ($($protocol:ty: $($name:ident),* $(,)?;)*) => {
        const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");

        $($(
            #[test]
            fn $name() {
                let path = std::path::Path::new(FOLDER).join(stringify!($name));
                let config = $crate::conformance::default_config::<$protocol>;
                $crate::script::run::<$protocol>(path, config).unwrap();
            }
        )*)*

        #[test]
        fn every_script_is_played() {
            $crate::script::assert_all_played(FOLDER, &[$($(stringify!($name)),*),*]);
        }
    };
}

impl<P: Protocol> Runner for ScriptSession<P> {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        match command.name.as_str() {
            "cluster" => self.reset(args.take_key("nodes").unwrap_or("3").parse()?)?,
            "timeout" | "deliver" | "settle" | "drop" => self.run_time(command, &mut args)?,
            "propose" | "read" => self.run_client(command, &mut args)?,
            "status" | "disk" | "state" => self.run_look(command, &mut args)?,
            _ => self.run_fault(command, &mut args)?,
        }
        args.reject_next()?;
        Ok(std::mem::take(&mut self.output))
    }
}

impl<P: Protocol> ScriptSession<P> {
    fn run_time(&mut self, command: &Command, args: &mut ArgumentConsumer<'_>) -> ScriptResult<()> {
        match command.name.as_str() {
            "timeout" => {
                let times: usize = args.take_key("times").unwrap_or("1").parse()?;
                let node = self.node(args)?;
                (0..times).try_for_each(|_| self.timeout(node))
            }
            "deliver" => {
                let keep = args.take_key("keep") == Some("yes");
                let filter = self.filter(args)?;
                match self.deliver(filter, keep)? {
                    0 => Err("nothing is in flight there".into()),
                    _ => Ok(()),
                }
            }
            "settle" => {
                for _ in 0..MAX_ROUNDS {
                    if self.deliver(LinkFilter::default(), false)? == 0 {
                        return Ok(());
                    }
                }
                Err("the nodes do not come to rest".into())
            }
            _ => {
                let filter = self.filter(args)?;
                self.drop_messages(filter);
                Ok(())
            }
        }
    }

    fn run_client(
        &mut self,
        command: &Command,
        args: &mut ArgumentConsumer<'_>,
    ) -> ScriptResult<()> {
        let node = self.node(args)?;
        if command.name == "propose" {
            let (key, value) = args.next_key().ok_or("propose what? for example x=5")?;
            return self.propose(node, key, value);
        }
        let key = args.next_pos().ok_or("read which key?")?;
        self.read(node, key)
    }

    fn run_look(&mut self, command: &Command, args: &mut ArgumentConsumer<'_>) -> ScriptResult<()> {
        let nodes = match self.maybe_node(args)? {
            Some(node) => node..node + 1,
            None => 0..self.cluster.world.nodes.len(),
        };
        for node in nodes {
            match command.name.as_str() {
                "status" => self.status(node)?,
                "disk" => self.disk(node)?,
                _ => self.state(node)?,
            }
        }
        Ok(())
    }

    fn run_fault(
        &mut self,
        command: &Command,
        args: &mut ArgumentConsumer<'_>,
    ) -> ScriptResult<()> {
        if command.name == "heal" {
            self.cluster.world.network.end_faults();
            return Ok(());
        }
        let node = self.node(args)?;
        match command.name.as_str() {
            "hold" => {
                self.held.insert(node);
            }
            "release" => {
                self.held.remove(&node);
                self.sync_all(node)?;
            }
            "sync" => self.sync(node)?,
            "partition" => {
                let mut side = vec![node];
                while let Some(node) = self.maybe_node(args)? {
                    side.push(node);
                }
                let all = 0..self.cluster.world.nodes.len();
                let others: Vec<_> = all.filter(|node| !side.contains(node)).collect();
                self.cluster.world.network.cut(self.cluster.world.now, &links(&side, &others));
                self.cluster.world.network.cut(self.cluster.world.now, &links(&others, &side));
            }
            "cut" => {
                let to = self.node(args)?;
                self.cluster.world.network.cut(self.cluster.world.now, &[Link { from: node, to }]);
            }
            "crash" => {
                let keep = args.take_key("keep").unwrap_or("0").parse()?;
                self.crash(node, keep)?;
            }
            "restart" => self.restart(node)?,
            name => return Err(format!("unknown command {name}").into()),
        }
        Ok(())
    }

    fn filter(&self, args: &mut ArgumentConsumer<'_>) -> ScriptResult<LinkFilter> {
        let to = args.take_key("to").map(|name| self.index(name)).transpose()?;
        let from = self.maybe_node(args)?;
        let to = self.maybe_node(args)?.or(to);
        Ok(LinkFilter { from, to })
    }

    fn node(&self, args: &mut ArgumentConsumer<'_>) -> ScriptResult<usize> {
        Ok(self.maybe_node(args)?.ok_or("which node?")?)
    }

    fn maybe_node(&self, args: &mut ArgumentConsumer<'_>) -> ScriptResult<Option<usize>> {
        args.next_pos().map(|name| self.index(name)).transpose()
    }

    /// `n1` is the first node.
    fn index(&self, name: &str) -> ScriptResult<usize> {
        let number = name.strip_prefix('n').and_then(|number| number.parse::<usize>().ok());
        let index = number.and_then(|number| number.checked_sub(1));
        let index = index.filter(|index| *index < self.cluster.world.nodes.len());
        index.ok_or_else(|| format!("{name} is no node of this cluster").into())
    }
}
