//! Golden scripts: runs in which every event is a command of a text file.
//!
//! A script is a text file of commands and, after `---`, their output. Nothing happens without a
//! command: no timer fires and no message arrives. Disks sync at once, unless they are held.
//!
//! | command | effect |
//! |---|---|
//! | `cluster nodes=3` | starts over with new nodes |
//! | `timeout n1 [times=2]` | advances time until a timer of n1 fires with an effect; fires no other timer |
//! | `deliver [n1 [n2]] [to=n2]` | delivers the messages in flight (from n1, to n2), not the replies to them |
//! | `deliver ... keep=yes` | the same, and the messages stay in flight |
//! | `settle` | delivers all messages, replies too, until none is in flight |
//! | `drop [n1 [n2]] [to=n2]` | loses the messages in flight |
//! | `propose n1 x=5` | a client of n1 puts 5 under the key x (one letter) |
//! | `read n1 x` | a client of n1 reads the key x |
//! | `hold n1`, `release n1` | n1's disk syncs only on the command `sync`; ends this |
//! | `sync n1` | n1's disk syncs its pending writes once |
//! | `partition n1 n2` | cuts these nodes off from all others |
//! | `cut n1 n2` | cuts the link from n1 to n2 |
//! | `heal` | heals all cuts |
//! | `crash n1 [keep=1]` | crashes n1; its disk keeps one unsynced batch (none by default) |
//! | `restart n1` | starts n1 again |
//! | `status [n1]` | role, round and leader (`*`: unknown), commit index, last slot |
//! | `disk n1` | durable content of n1's disk |
//! | `state n1` | applied state of n1 |
//!
//! All checkers of the simulator run: a violation fails the script.

mod session;

use crate::cluster::network::links::{Link, links};
use goldenscript::{ArgumentConsumer, Command, Context, Runner};
use session::{LinkFilter, ScriptResult, ScriptSession};
use std::error::Error;
use std::path::Path;
use synod_consensus::Protocol;
use synod_types::{Membership, NodeId};

/// Maximum number of rounds of `settle`.
const MAX_ROUNDS: usize = 1000;

/// Runs the script at `path` and compares its output with the file. With `UPDATE_GOLDENFILES=1` in
/// the environment the file is rewritten instead.
///
/// # Errors
/// If the file cannot be read, a command is malformed, or a checker finds a violation.
///
/// # Panics
/// If the transcript differs from the file.
pub fn run<P: Protocol>(
    path: impl AsRef<Path>,
    config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
) -> std::io::Result<()> {
    goldenscript::run(&mut ScriptSession::<P>::new(config), path)
}

/// Makes one test for each golden script in `tests/scripts` of the caller's package, with the
/// default settings of the script's protocol.
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
            "status" | "disk" | "state" => self.run_inspection(command, &mut args)?,
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
                    0 => Err("no such message is in flight".into()),
                    _ => Ok(()),
                }
            }
            "settle" => {
                for _ in 0..MAX_ROUNDS {
                    if self.deliver(LinkFilter::default(), false)? == 0 {
                        return Ok(());
                    }
                }
                Err(format!("messages are still in flight after {MAX_ROUNDS} rounds").into())
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
            let (key, value) =
                args.next_key().ok_or("argument missing: a key and value, such as x=5")?;
            return self.propose(node, key, value);
        }
        let key = args.next_pos().ok_or("argument missing: a key")?;
        self.read(node, key)
    }

    fn run_inspection(
        &mut self,
        command: &Command,
        args: &mut ArgumentConsumer<'_>,
    ) -> ScriptResult<()> {
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
        Ok(self.maybe_node(args)?.ok_or("argument missing: a node")?)
    }

    fn maybe_node(&self, args: &mut ArgumentConsumer<'_>) -> ScriptResult<Option<usize>> {
        args.next_pos().map(|name| self.index(name)).transpose()
    }

    /// Returns the index of a node: `n1` is the first.
    fn index(&self, name: &str) -> ScriptResult<usize> {
        let number = name.strip_prefix('n').and_then(|number| number.parse::<usize>().ok());
        let index = number.and_then(|number| number.checked_sub(1));
        let index = index.filter(|index| *index < self.cluster.world.nodes.len());
        index.ok_or_else(|| format!("{name} is not a node of this cluster").into())
    }
}
