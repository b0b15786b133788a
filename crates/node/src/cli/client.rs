//! `synod put`, `get`, `del`: a small client.

use super::print;
use anyhow::{Context, bail};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use synod_etcd_api::proto::etcdserverpb as pb;
use synod_etcd_api::proto::etcdserverpb::kv_client::KvClient;
use tonic::transport::{Channel, Endpoint};

/// How long one endpoint may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Replies may be as large as all that a node holds; gRPC's own limit is 4 MiB.
const MAX_REPLY: usize = 1 << 30;

/// Stands over the flags of [`Endpoints`], which any command shows.
const HEADING: &str = "Options of put, get, del, txn and status";

/// Which cluster to talk to.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Endpoints {
    /// Nodes to ask, separated by commas. All are asked how they do; anything else, the first
    /// that accepts a connection.
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

    /// How many seconds to wait for an answer.
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
    /// The endpoints without a scheme.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|endpoint| {
            let endpoint = endpoint.trim().trim_end_matches('/');
            endpoint.strip_prefix("http://").unwrap_or(endpoint)
        })
    }

    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    pub(super) async fn connect(&self) -> anyhow::Result<KvClient<Channel>> {
        let mut failures = Vec::new();
        for address in self.addresses() {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .with_context(|| format!("{address:?} is no endpoint: write HOST:PORT"))?
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .timeout(self.patience());
            match endpoint.connect().await {
                Ok(channel) => {
                    return Ok(KvClient::new(channel).max_decoding_message_size(MAX_REPLY));
                }
                Err(_) => failures.push(address),
            }
        }
        bail!("no node accepts a connection at {}", failures.join(", "))
    }
}

/// What went wrong, as the node said it; or that it said nothing.
pub(super) fn refused(status: tonic::Status) -> anyhow::Error {
    let message = status.message().to_owned();
    let unanswered =
        anyhow::Error::new(status).chain().any(|cause| cause.is::<tonic::TimeoutExpired>());
    if unanswered {
        anyhow::anyhow!("no answer in time; a write may be done all the same (see --timeout)")
    } else {
        anyhow::anyhow!(message)
    }
}

/// Write a key.
///
/// Prints OK when the write is agreed on.
#[derive(Debug, clap::Args)]
pub(super) struct Put {
    /// The key.
    key: String,
    /// Its new value.
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Print the key as it was before, too.
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
        let reply = to.connect().await?.put(request).await.map_err(refused)?.into_inner();
        let mut out = std::io::stdout().lock();
        writeln!(out, "OK")?;
        print::pairs(&mut out, reply.prev_kv.as_slice(), print::Show::Both)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Which keys.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Keys {
    /// The key, or the first of a range.
    key: String,
    /// The end of the range, itself left out.
    range_end: Option<String>,
    /// All keys that begin with this one; an empty key means all.
    #[arg(long, conflicts_with = "range_end")]
    prefix: bool,
}

impl Keys {
    /// Key and range end as the API wants them.
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

/// The first key behind all that begin with `prefix`; a zero byte if there is none.
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

/// Read a key, or several.
///
/// Prints each key and its value on lines of their own; nothing if there is none.
#[derive(Debug, clap::Args)]
pub(super) struct Get {
    #[command(flatten)]
    keys: Keys,
    /// At most this many keys; 0 for all.
    #[arg(long, default_value_t = 0)]
    limit: i64,
    /// Print keys without their values.
    #[arg(long)]
    keys_only: bool,
    /// Print values without their keys.
    #[arg(long, conflicts_with = "keys_only")]
    print_value_only: bool,
    /// Take what the node itself has: needs no other node, and may be behind.
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
        let reply = to.connect().await?.range(request).await.map_err(refused)?.into_inner();
        let show = match (self.keys_only, self.print_value_only) {
            (true, _) => print::Show::Keys,
            (_, true) => print::Show::Values,
            _ => print::Show::Both,
        };
        print::pairs(&mut std::io::stdout().lock(), &reply.kvs, show)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Delete a key, or several.
///
/// Prints how many keys are gone.
#[derive(Debug, clap::Args)]
pub(super) struct Del {
    #[command(flatten)]
    keys: Keys,
    /// Print the keys as they were, too.
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
        let reply = client.delete_range(request).await.map_err(refused)?.into_inner();
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
    fn a_prefix_ends_where_its_last_byte_can_be_raised() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
    }

    #[test]
    fn bounds_are_what_the_api_wants() {
        let keys = |key: &str, end: Option<&str>, prefix| {
            Keys { key: key.into(), range_end: end.map(Into::into), prefix }.bounds()
        };
        assert_eq!(keys("a", None, false), (b"a".to_vec(), vec![]));
        assert_eq!(keys("a", Some("c"), false), (b"a".to_vec(), b"c".to_vec()));
        assert_eq!(keys("a", None, true), (b"a".to_vec(), b"b".to_vec()));
        assert_eq!(keys("", None, true), (vec![0], vec![0]), "every key");
    }

    #[test]
    fn a_timeout_says_that_the_outcome_is_unknown() {
        let timeout = tonic::Status::from_error(Box::new(tonic::TimeoutExpired(())));
        assert!(refused(timeout).to_string().contains("a write may be done all the same"));
        let other = refused(tonic::Status::unavailable("etcdserver: no leader"));
        assert_eq!(other.to_string(), "etcdserver: no leader");
    }

    #[test]
    fn endpoints_may_be_written_as_urls() {
        let endpoints =
            Endpoints { endpoints: vec!["http://a:1/".into(), " b:2".into()], timeout: 1 };
        assert_eq!(endpoints.addresses().collect::<Vec<_>>(), ["a:1", "b:2"]);
    }
}
