//! The settings of one node. Flags override environment variables, which override the settings file,
//! which overrides the defaults.
//!
//! A [`Layer`] is one source of settings, with every field optional. [`Layer::over`] merges two
//! layers, and [`NodeSettings::parse`] turns the result into valid settings or a one-line error.
//!
//! ```
//! use std::path::Path;
//! use synod_node::settings::{Layer, NodeSettings};
//!
//! let file = Layer::from_toml(
//!     r#"
//!     node = 1
//!     cluster = 7
//!     ca = "ca.pem"
//!     cert = "node.pem"
//!     key = "node.key"
//!     members = [{ id = 1, peer = "127.0.0.1:2380", client = "http://127.0.0.1:2379" }]
//!     "#,
//!     Path::new("/etc/synod/node.toml"),
//! )?;
//! let flags = Layer { heartbeat: Some("80ms".parse()?), ..Layer::default() };
//! let settings = NodeSettings::parse(flags.over(file))?;
//! assert_eq!(settings.timing.heartbeat.as_millis(), 80);
//! assert_eq!(settings.certificates.ca, Path::new("/etc/synod/ca.pem"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod layer;
mod values;

pub use layer::Layer;
pub use values::{LogFormat, MemberAddress, Period, Size, StoreKind};

use crate::protocol::ProtocolKind;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use synod_types::{ClusterId, Membership, NodeId};

/// Complete and consistent settings of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Id of this node.
    pub node: NodeId,
    /// Id of the cluster.
    pub cluster: ClusterId,
    /// All members of the cluster, this node included, in the order of their ids.
    pub members: Vec<MemberAddress>,
    /// Address to listen on for peers, over QUIC.
    pub listen_peers: SocketAddr,
    /// Address to listen on for clients, over TCP.
    pub listen_clients: SocketAddr,
    /// Data folder with log and state.
    pub data: PathBuf,
    /// Certificate and key files.
    pub certificates: CertificateFiles,
    /// The consensus protocol.
    pub protocol: ProtocolKind,
    /// Storage of log and state.
    pub store: StoreKind,
    /// Election and heartbeat timeouts.
    pub timing: TimingSettings,
    /// Timeout of a client's request, after which its outcome is reported as unknown.
    pub request_timeout: Duration,
    /// Memory limit for the replies to all reads until they are sent.
    pub read_budget: Size,
    /// Size limit for the reply to one read.
    pub max_reply: Size,
    /// Time that pending requests have to complete when the node stops.
    pub drain_timeout: Duration,
    /// Log filter.
    pub log: String,
    /// Format of log lines.
    pub log_format: LogFormat,
}

/// Certificate and key files of a node, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Certificate of the authority that signed every node's certificate.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Private key of this node's certificate.
    pub key: PathBuf,
}

/// Election and heartbeat timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimingSettings {
    /// Range of the election timeout, from which each timeout is drawn at random. In Basic Paxos its
    /// end is the maximum delay before a retransmission or retry.
    pub election: Range<Duration>,
    /// Interval of a leader's heartbeats; in Basic Paxos, of catch-up requests.
    pub heartbeat: Duration,
}

/// Error in settings. Its message is one line that names the setting or the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's message.
        reason: String,
    },
    /// The file is not valid.
    #[error("{path}:{line}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// The line in it, from 1.
        line: usize,
        /// The parser's message.
        reason: String,
    },
    /// A setting without a default is missing in all layers.
    #[error("the setting `{0}` is missing: set it in the settings file, as SYNOD_{1}, or as --{0}")]
    Missing(&'static str, String),
    /// A setting has an invalid value, or one that contradicts another setting.
    #[error("the setting `{key}` is not valid: {reason}")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// The reason.
        reason: String,
    },
}

impl NodeSettings {
    /// Checks the merged layers and fills in the defaults.
    ///
    /// # Errors
    /// If a setting without a default is missing, or a value is not valid.
    pub fn parse(layer: Layer) -> Result<Self, SettingsError> {
        let node = NodeId(required("node", layer.node)?);
        let read_budget = layer.read_budget.unwrap_or(Size::mib(256));
        let settings = Self {
            node,
            cluster: ClusterId(required("cluster", layer.cluster)?),
            members: members(node, layer.members)?,
            listen_peers: layer.listen_peers.unwrap_or(([127, 0, 0, 1], 2380).into()),
            listen_clients: layer.listen_clients.unwrap_or(([127, 0, 0, 1], 2379).into()),
            data: layer.data.unwrap_or_else(|| "synod-data".into()),
            certificates: CertificateFiles {
                ca: required("ca", layer.ca)?,
                cert: required("cert", layer.cert)?,
                key: required("key", layer.key)?,
            },
            protocol: protocol(layer.protocol.as_deref())?,
            store: layer.store.unwrap_or_default(),
            timing: TimingSettings {
                election: duration(layer.election_min, 300)..duration(layer.election_max, 600),
                heartbeat: duration(layer.heartbeat, 60),
            },
            request_timeout: duration(layer.request_timeout, 7_000),
            read_budget,
            max_reply: layer.max_reply.unwrap_or(Size::mib(128).min(read_budget)),
            drain_timeout: duration(layer.drain_timeout, 5_000),
            log: layer.log.unwrap_or_else(|| "info".into()),
            log_format: layer.log_format.unwrap_or_default(),
        };
        settings.check()?;
        Ok(settings)
    }

    /// Returns this node's entry in the list of members.
    #[must_use]
    pub fn own_member(&self) -> &MemberAddress {
        let own = self.members.iter().find(|member| member.id == self.node.0);
        own.expect("`parse` has checked that this node is a member")
    }

    /// Returns the founding members, as voters.
    #[must_use]
    pub fn membership(&self) -> Membership {
        let voters = self.members.iter().map(|member| NodeId(member.id));
        Membership::new(voters, []).expect("`parse` has checked the members")
    }

    fn check(&self) -> Result<(), SettingsError> {
        let TimingSettings { election, heartbeat } = &self.timing;
        if election.start >= election.end {
            let Range { start: min, end: max } = election;
            let reason = format!("{max:?} must be more than election-min, which is {min:?}");
            return Err(invalid("election-max", reason));
        }
        if heartbeat.is_zero() || *heartbeat * 3 > election.start {
            let max = election.start / 3;
            let reason =
                format!("{heartbeat:?} must be from 1ms to {max:?}, a third of election-min");
            return Err(invalid("heartbeat", reason));
        }
        if self.request_timeout < election.end {
            let (given, min) = (self.request_timeout, election.end);
            let reason = format!("{given:?} must be at least election-max, which is {min:?}");
            return Err(invalid("request-timeout", reason));
        }
        // A protobuf message has at most 2 GiB, and a reply larger than the read budget would always be
        // rejected.
        let max = self.read_budget.min(Size::mib(2 << 10));
        let given = self.max_reply.bytes();
        if self.max_reply > max {
            let max = max.bytes();
            let reason = format!("{given} bytes exceed {max} bytes, the read budget or 2GiB");
            return Err(invalid("max-reply", reason));
        }
        if self.max_reply < Size::mib(2) {
            let reason =
                format!("{given} bytes must be at least 2MiB, so that a reply can hold any value");
            return Err(invalid("max-reply", reason));
        }
        Ok(())
    }
}

fn required<T>(key: &'static str, value: Option<T>) -> Result<T, SettingsError> {
    value.ok_or_else(|| SettingsError::Missing(key, key.to_uppercase().replace('-', "_")))
}

fn invalid(key: &'static str, reason: String) -> SettingsError {
    SettingsError::Invalid { key, reason }
}

fn duration(given: Option<Period>, default_ms: u64) -> Duration {
    given.map_or(Duration::from_millis(default_ms), |period| period.0)
}

fn protocol(given: Option<&str>) -> Result<ProtocolKind, SettingsError> {
    let parsed = given.map(|name| name.parse().map_err(|reason| invalid("protocol", reason)));
    parsed.unwrap_or(Ok(ProtocolKind::default()))
}

/// Returns the members in the order of their ids; `node` must be one of them.
fn members(
    node: NodeId,
    mut members: Vec<MemberAddress>,
) -> Result<Vec<MemberAddress>, SettingsError> {
    if members.is_empty() {
        required::<()>("members", None)?;
    }
    members.sort_by_key(|member| member.id);
    let ids = members.iter().map(|member| NodeId(member.id));
    Membership::new(ids, []).map_err(|error| invalid("members", error.to_string()))?;
    if !members.iter().any(|member| member.id == node.0) {
        return Err(invalid("node", format!("node {node} is not in the list `members`")));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn whole() -> Layer {
        let member = |id| MemberAddress {
            id,
            peer: format!("127.0.0.1:{}", 2380 + id),
            client: format!("http://127.0.0.1:{}", 3380 + id),
        };
        Layer {
            node: Some(1),
            cluster: Some(7),
            members: vec![member(2), member(1)],
            ca: Some("ca.pem".into()),
            cert: Some("node.pem".into()),
            key: Some("node.key".into()),
            ..Layer::default()
        }
    }

    fn parse(change: impl FnOnce(&mut Layer)) -> Result<NodeSettings, String> {
        let mut layer = whole();
        change(&mut layer);
        NodeSettings::parse(layer).map_err(|error| error.to_string())
    }

    #[test]
    fn missing_settings_have_defaults() {
        let settings = parse(|_| ()).unwrap();
        assert_eq!(settings.listen_clients.to_string(), "127.0.0.1:2379");
        assert_eq!(settings.listen_peers.to_string(), "127.0.0.1:2380");
        assert_eq!(settings.timing.election.start.as_millis(), 300);
        assert_eq!(settings.timing.election.end.as_millis(), 600);
        assert_eq!(settings.timing.heartbeat.as_millis(), 60);
        assert_eq!(settings.request_timeout.as_secs(), 7);
        assert_eq!(settings.drain_timeout.as_secs(), 5);
        assert_eq!((settings.read_budget, settings.max_reply), (Size::mib(256), Size::mib(128)));
        assert_eq!(settings.protocol.name(), "raft");
        assert_eq!((settings.log.as_str(), settings.log_format), ("info", LogFormat::Pretty));
        assert_eq!(settings.data, Path::new("synod-data"));
        assert_eq!(settings.members[0].id, 1, "members are sorted by id");
        assert_eq!(settings.own_member().client, "http://127.0.0.1:3381");
        assert_eq!(settings.membership().voters(), [NodeId(1), NodeId(2)]);
    }

    #[test]
    fn each_invalid_setting_is_a_one_line_error_that_names_it() {
        type Change = fn(&mut Layer);
        let cases: [(Change, &str); 12] = [
            (|layer| layer.node = None, "`node` is missing"),
            (|layer| layer.cluster = None, "as SYNOD_CLUSTER, or as --cluster"),
            (|layer| layer.members.clear(), "`members` is missing"),
            (|layer| layer.node = Some(9), "node 9 is not in the list `members`"),
            (|layer| layer.members[0].id = 1, "node 1 is listed twice"),
            (|layer| layer.election_max = layer.election_min, "election-min, which is 400ms"),
            (|layer| layer.heartbeat = "200ms".parse().ok(), "a third of election-min"),
            (
                |layer| layer.request_timeout = "1ms".parse().ok(),
                "1ms must be at least election-max",
            ),
            (
                |layer| layer.max_reply = "257MiB".parse().ok(),
                "exceed 268435456 bytes, the read budget",
            ),
            (|layer| layer.read_budget = "1MiB".parse().ok(), "`max-reply` is not valid"),
            (|layer| layer.max_reply = "1KiB".parse().ok(), "1024 bytes must be at least 2MiB"),
            (|layer| layer.protocol = Some("flood".into()), "unknown protocol \"flood\"; known: r"),
        ];
        for (change, expected) in cases {
            let change = |layer: &mut Layer| {
                layer.election_min = "400ms".parse().ok();
                change(layer);
            };
            let error = parse(change).unwrap_err();
            assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
            assert!(!error.contains('\n'), "{error:?}");
        }
    }
}
