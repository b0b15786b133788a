//! One source of settings: a file, or flags and environment variables.

use super::{LogFormat, MemberAddress, Period, SettingsError, Size, StoreKind};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The settings of one source, each optional. A key in a file has the name of its flag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Layer {
    /// This node's id, 1 or more. Required.
    #[arg(long, env = "SYNOD_NODE", value_name = "ID")]
    pub node: Option<u64>,

    /// The cluster's id, the same on all its nodes. Required.
    #[arg(long, env = "SYNOD_CLUSTER", value_name = "ID")]
    pub cluster: Option<u64>,

    /// All members of the cluster, this node included, separated by spaces:
    /// ID=PEER_HOST:PORT,CLIENT_URL, for example 1=10.0.0.1:2380,http://10.0.0.1:2379. In a file:
    /// members = [{ id = 1, peer = "10.0.0.1:2380", client = "http://10.0.0.1:2379" }, ..]. Required.
    #[arg(long, env = "SYNOD_MEMBERS", value_name = "MEMBERS", value_delimiter = ' ')]
    #[serde(default)]
    pub members: Vec<MemberAddress>,

    /// Address to listen on for peers (QUIC, UDP). Default: 127.0.0.1:2380.
    #[arg(long, env = "SYNOD_LISTEN_PEERS", value_name = "IP:PORT")]
    pub listen_peers: Option<SocketAddr>,

    /// Address to listen on for clients (gRPC and HTTP, TCP). Default: 127.0.0.1:2379.
    #[arg(long, env = "SYNOD_LISTEN_CLIENTS", value_name = "IP:PORT")]
    pub listen_clients: Option<SocketAddr>,

    /// Data folder with the node's log and state, created if missing. Default: synod-data.
    #[arg(long, env = "SYNOD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Certificate of the authority that signed the nodes' certificates (PEM). Required.
    #[arg(long, env = "SYNOD_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// This node's certificate (PEM), created by `synod cert node`. Required.
    #[arg(long, env = "SYNOD_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,

    /// The private key of this node's certificate (PEM). Required.
    #[arg(long, env = "SYNOD_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// The consensus protocol, the same on all nodes: raft, multi-paxos or basic-paxos. Default:
    /// raft.
    #[arg(long, env = "SYNOD_PROTOCOL", value_name = "NAME")]
    pub protocol: Option<String>,

    /// Storage of log and state. Default: rocksdb, or memory in a build without RocksDB.
    #[arg(long, env = "SYNOD_STORE", value_name = "STORE", ignore_case = true)]
    pub store: Option<StoreKind>,

    /// Minimum election timeout. A node starts an election if it receives nothing from a leader for a random time
    /// between the minimum and the maximum. In basic-paxos, only a bound for heartbeat. Default: 300ms.
    #[arg(long, env = "SYNOD_ELECTION_MIN", value_name = "TIME")]
    pub election_min: Option<Period>,

    /// Maximum election timeout. In basic-paxos, which has no elections, the maximum delay before a
    /// node retransmits or retries. Default: 600ms.
    #[arg(long, env = "SYNOD_ELECTION_MAX", value_name = "TIME")]
    pub election_max: Option<Period>,

    /// Interval of a leader's heartbeats; at most a third of election-min. In basic-paxos, the
    /// interval of catch-up requests. Default: 60ms.
    #[arg(long, env = "SYNOD_HEARTBEAT", value_name = "TIME")]
    pub heartbeat: Option<Period>,

    /// Timeout of a client's request, after which its outcome is reported as unknown; at least
    /// election-max. Default: 7s.
    #[arg(long, env = "SYNOD_REQUEST_TIMEOUT", value_name = "TIME")]
    pub request_timeout: Option<Period>,

    /// Memory limit for the replies to all reads, from the first key found until the reply is sent;
    /// reads beyond it are rejected. Default: 256MiB.
    #[arg(long, env = "SYNOD_READ_BUDGET", value_name = "SIZE")]
    pub read_budget: Option<Size>,

    /// Size limit for the reply to one read, from 2MiB to 2GiB and at most the read budget. A read with a
    /// larger reply is rejected: clients can read in pages (with a limit). Default: 128MiB, or the read
    /// budget if that is less.
    #[arg(long, env = "SYNOD_MAX_REPLY", value_name = "SIZE")]
    pub max_reply: Option<Size>,

    /// Time that pending requests have to complete when the node stops. Default: 5s.
    #[arg(long, env = "SYNOD_DRAIN_TIMEOUT", value_name = "TIME")]
    pub drain_timeout: Option<Period>,

    /// Log filter: a level, or module=level pairs separated by commas, as in RUST_LOG. Default: info.
    #[arg(long, env = "SYNOD_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// Format of log lines. Default: pretty.
    #[arg(long, env = "SYNOD_LOG_FORMAT", value_name = "FORMAT", ignore_case = true)]
    pub log_format: Option<LogFormat>,
}

impl Layer {
    /// Reads a settings file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// If the file cannot be read, is not TOML, or has an unknown key.
    pub fn from_file(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path).map_err(|error| SettingsError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Self::from_toml(&text, path)
    }

    /// Parses the text of the settings file at `path`.
    ///
    /// # Errors
    /// If the text is not TOML, or has an unknown key.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let mut layer: Self = toml::from_str(text).map_err(|error| SettingsError::File {
            path: path.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            reason: error.message().replace('\n', ", "),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for file in [&mut layer.data, &mut layer.ca, &mut layer.cert, &mut layer.key] {
            // Joining an absolute path yields that path.
            *file = file.take().map(|file| folder.join(file));
        }
        Ok(layer)
    }

    /// Merges two layers: returns this one, with missing settings taken from `below`.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        let members = if self.members.is_empty() { below.members } else { self.members };
        Self {
            node: self.node.or(below.node),
            cluster: self.cluster.or(below.cluster),
            members,
            listen_peers: self.listen_peers.or(below.listen_peers),
            listen_clients: self.listen_clients.or(below.listen_clients),
            data: self.data.or(below.data),
            ca: self.ca.or(below.ca),
            cert: self.cert.or(below.cert),
            key: self.key.or(below.key),
            protocol: self.protocol.or(below.protocol),
            store: self.store.or(below.store),
            election_min: self.election_min.or(below.election_min),
            election_max: self.election_max.or(below.election_max),
            heartbeat: self.heartbeat.or(below.heartbeat),
            request_timeout: self.request_timeout.or(below.request_timeout),
            read_budget: self.read_budget.or(below.read_budget),
            max_reply: self.max_reply.or(below.max_reply),
            drain_timeout: self.drain_timeout.or(below.drain_timeout),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
        }
    }
}

/// Returns the line number, from 1, of the byte at `at`.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/etc/synod/node.toml";

    fn read(text: &str) -> Result<Layer, String> {
        Layer::from_toml(text, Path::new(FILE)).map_err(|error| error.to_string())
    }

    #[test]
    fn unknown_key_is_reported_with_its_file_and_line() {
        let error = read("node = 1\n\nelectoin-min = \"1s\"\n").unwrap_err();
        assert!(
            error.starts_with("/etc/synod/node.toml:3: unknown field `electoin-min`"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error:?}");
        let error = read("node = 1\nmembers = [{ id = 1, peer = \"a\", client = \"b\", x = 1 }]\n");
        assert!(error.as_ref().is_err_and(|e| e.contains(":2: unknown field `x`")), "{error:?}");
    }

    #[test]
    fn invalid_value_is_reported_with_its_file_and_line() {
        for (text, expected) in [
            ("node = \"one\"", ":1: invalid type"),
            ("\nheartbeat = \"1h\"", ":2: \"1h\" is not a duration"),
            ("store = \"paper\"", ":1: unknown variant `paper`"),
            ("\n\nnode = ", ":3: "),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn relative_paths_are_resolved_from_the_settings_file() {
        let layer = read("data = \"data\"\nca = \"../ca.pem\"\nkey = \"/run/key\"").unwrap();
        assert_eq!(layer.data.as_deref(), Some(Path::new("/etc/synod/data")));
        assert_eq!(layer.ca.as_deref(), Some(Path::new("/etc/synod/../ca.pem")));
        assert_eq!(layer.key.as_deref(), Some(Path::new("/run/key")));
        assert_eq!(layer.cert, None);
    }

    /// Returns a file with every setting. The files of nodes 1 and 2 differ in each value.
    fn full(node: u64, time: &str) -> String {
        format!(
            "node = {node}\ncluster = {node}\n\
             members = [{{ id = {node}, peer = \"p\", client = \"c\" }}]\n\
             listen-peers = \"127.0.0.1:{node}\"\nlisten-clients = \"127.0.0.1:{node}\"\n\
             data = \"{node}\"\nca = \"{node}\"\ncert = \"{node}\"\nkey = \"{node}\"\n\
             protocol = \"{node}\"\nstore = \"{}\"\nelection-min = \"{time}\"\n\
             election-max = \"{time}\"\nheartbeat = \"{time}\"\nrequest-timeout = \"{time}\"\n\
             read-budget = \"{node}MiB\"\nmax-reply = \"{node}MiB\"\n\
             drain-timeout = \"{time}\"\nlog = \"{node}\"\nlog-format = \"{}\"\n",
            if node == 1 { "memory" } else { "rocksdb" },
            if node == 1 { "json" } else { "compact" },
        )
    }

    #[test]
    fn upper_layer_overrides_every_field_and_the_lower_supplies_missing_ones() {
        let (upper, lower) = (read(&full(1, "1s")).unwrap(), read(&full(2, "2s")).unwrap());
        assert_eq!(upper.clone().over(lower.clone()), upper);
        assert_eq!(Layer::default().over(lower.clone()), lower);
        assert_eq!(lower.clone().over(Layer::default()), lower);
        // A field that `over` misses would be `None` in one of these.
        assert!(!format!("{upper:?}").contains("None"), "a field is not set: {upper:?}");
    }
}
