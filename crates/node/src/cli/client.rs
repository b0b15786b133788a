//! `synod put`, `get` and `del`.

use super::print;
use anyhow::{Context, bail};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use synod_etcd_api::proto::etcdserverpb as pb;
use synod_etcd_api::proto::etcdserverpb::kv_client::KvClient;
use tonic::transport::{Channel, Endpoint};

/// Timeout of the connection to one endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of a reply in bytes. gRPC's default of 4 MiB is too small for a read of all keys.
const MAX_REPLY: usize = 1 << 30;

/// Help heading of the flags of [`Endpoints`], which the help of every command lists.
const HEADING: &str = "Options of put, get, del, txn and status";

/// The endpoints of a cluster.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Endpoints {
    /// Client addresses of nodes, separated by commas. `status` queries all of them; the other
    /// commands use the first that accepts a connection.
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        env = "SYNOD_ENDPOINTS",
        value_name = "HOST:PORT,..",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379,127.0.0.1:2380,127.0.0.1:2381"
    )]
    pub(super) endpoints: Vec<String>,

    /// Timeout of a request in seconds.
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    pub(super) timeout: u64,
}

impl Endpoints {
    /// Returns the endpoints without a scheme.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|endpoint| {
            let endpoint = endpoint.trim().trim_end_matches('/');
            endpoint.strip_prefix("http://").unwrap_or(endpoint)
        })
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    pub(super) async fn connect(&self) -> anyhow::Result<KvClient<Channel>> {
        let mut failures = Vec::new();
        for address in self.addresses() {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .with_context(|| format!("{address:?} is not an endpoint: write HOST:PORT"))?
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .timeout(self.request_timeout());
            match endpoint.connect().await {
                Ok(channel) => {
                    return Ok(KvClient::new(channel).max_decoding_message_size(MAX_REPLY));
                }
                Err(_) => failures.push(address),
            }
        }
        bail!("cannot connect to any endpoint: {}", failures.join(", "))
    }
}

/// Returns the node's error message, or the client's own if the request timed out.
pub(super) fn request_error(status: tonic::Status) -> anyhow::Error {
    let message = status.message().to_owned();
    let timed_out =
        anyhow::Error::new(status).chain().any(|cause| cause.is::<tonic::TimeoutExpired>());
    if timed_out {
        anyhow::anyhow!("request timed out: a write may have been applied (see --timeout)")
    } else {
        anyhow::anyhow!(message)
    }
}

/// Write a key.
///
/// Prints OK when the write is committed and applied.
#[derive(Debug, clap::Args)]
pub(super) struct Put {
    /// The key.
    key: String,
    /// The new value of the key.
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Also print the key and its previous value.
    #[arg(long)]
    prev_kv: bool,
}

impl Put {
    pub(super) async fn run(self, to: Endpoints) -> anyhow::Result<ExitCode> {
        let request = pb::PutRequest {
            key: self.key.into(),
            value: self.value.into(),
            prev_kv: self.prev_kv,
            ..Default::default()
        };
        let reply = to.connect().await?.put(request).await.map_err(request_error)?.into_inner();
        let mut out = std::io::stdout().lock();
        writeln!(out, "OK")?;
        print::pairs(&mut out, reply.prev_kv.as_slice(), print::Show::Both)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A key, a range or a prefix.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Keys {
    /// The key, or the first key of a range.
    key: String,
    /// The end of the range, exclusive.
    range_end: Option<String>,
    /// Select all keys that begin with KEY; an empty KEY selects all keys.
    #[arg(long, conflicts_with = "range_end")]
    prefix: bool,
}

impl Keys {
    /// Returns the key and the range end of an etcd request.
    fn bounds(self) -> (Vec<u8>, Vec<u8>) {
        let key = self.key.into_bytes();
        match (self.prefix, self.range_end) {
            (true, _) if key.is_empty() => (vec![0], vec![0]),
            (true, _) => {
                let end = prefix_end(&key);
                (key, end)
            }
            (false, Some(end)) => (key, end.into_bytes()),
            (false, None) => (key, Vec::new()),
        }
    }
}

/// Returns the exclusive end of the range of keys with this prefix: the first greater key without it,
/// or a zero byte if there is none.
pub(super) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Read keys.
///
/// Prints each key and each value on its own line; nothing if no key is found.
#[derive(Debug, clap::Args)]
pub(super) struct Get {
    #[command(flatten)]
    keys: Keys,
    /// Maximum number of keys to print; 0 prints all.
    #[arg(long, default_value_t = 0)]
    limit: i64,
    /// Print keys without their values.
    #[arg(long)]
    keys_only: bool,
    /// Print values without their keys.
    #[arg(long, conflicts_with = "keys_only")]
    print_value_only: bool,
    /// Serializable read: served by one node without a quorum, possibly stale.
    #[arg(long)]
    serializable: bool,
}

impl Get {
    pub(super) async fn run(self, to: Endpoints) -> anyhow::Result<ExitCode> {
        let (key, range_end) = self.keys.bounds();
        let request = pb::RangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            limit: self.limit,
            keys_only: self.keys_only,
            serializable: self.serializable,
            ..Default::default()
        };
        let reply = to.connect().await?.range(request).await.map_err(request_error)?.into_inner();
        let show = match (self.keys_only, self.print_value_only) {
            (true, _) => print::Show::Keys,
            (_, true) => print::Show::Values,
            _ => print::Show::Both,
        };
        print::pairs(&mut std::io::stdout().lock(), &reply.kvs, show)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Delete keys.
///
/// Prints the number of deleted keys.
#[derive(Debug, clap::Args)]
pub(super) struct Del {
    #[command(flatten)]
    keys: Keys,
    /// Also print the deleted keys and their values.
    #[arg(long)]
    prev_kv: bool,
}

impl Del {
    pub(super) async fn run(self, to: Endpoints) -> anyhow::Result<ExitCode> {
        let (key, range_end) = self.keys.bounds();
        let request = pb::DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: self.prev_kv,
        };
        let mut client = to.connect().await?;
        let reply = client.delete_range(request).await.map_err(request_error)?.into_inner();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", reply.deleted)?;
        print::pairs(&mut out, &reply.prev_kvs, print::Show::Both)?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_end_raises_the_last_byte_below_255() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
    }

    #[test]
    fn bounds_are_those_of_an_etcd_request() {
        let keys = |key: &str, end: Option<&str>, prefix| {
            Keys { key: key.into(), range_end: end.map(Into::into), prefix }.bounds()
        };
        assert_eq!(keys("a", None, false), (b"a".to_vec(), vec![]));
        assert_eq!(keys("a", Some("c"), false), (b"a".to_vec(), b"c".to_vec()));
        assert_eq!(keys("a", None, true), (b"a".to_vec(), b"b".to_vec()));
        assert_eq!(keys("", None, true), (vec![0], vec![0]), "every key");
    }

    #[test]
    fn timeout_error_states_that_the_outcome_is_unknown() {
        let timeout = tonic::Status::from_error(Box::new(tonic::TimeoutExpired(())));
        assert!(request_error(timeout).to_string().contains("a write may have been applied"));
        let other = request_error(tonic::Status::unavailable("etcdserver: no leader"));
        assert_eq!(other.to_string(), "etcdserver: no leader");
    }

    #[test]
    fn endpoints_may_be_urls() {
        let endpoints =
            Endpoints { endpoints: vec!["http://a:1/".into(), " b:2".into()], timeout: 1 };
        assert_eq!(endpoints.addresses().collect::<Vec<_>>(), ["a:1", "b:2"]);
    }
}
