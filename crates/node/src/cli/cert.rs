//! `synod cert`: creates certificate files.

use crate::certificates::{new_cluster_id, path, write_authority, write_issued};
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use synod_transport::certificates::{CertificateAuthority, IssuedCertificate};
use synod_types::{ClusterId, NodeId};

/// Create the certificates with which nodes authenticate each other.
///
/// Two nodes connect only if each has a certificate of an authority that the other trusts, and the
/// certificate names its node and cluster. Create the authority once, then one certificate per node.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Cert {
    /// Create a certificate authority: ca.pem for every node, and ca.key to keep secret.
    Ca {
        /// The cluster's id. Default: a random id, which is printed.
        #[arg(long, value_name = "ID")]
        cluster: Option<u64>,
        /// Folder to which the files are written.
        #[arg(long, default_value = ".", value_name = "DIR")]
        out: PathBuf,
    },
    /// Create a node's certificate and key: node-ID.pem and node-ID.key.
    Node {
        /// The node's id, from 1.
        #[arg(long, value_name = "ID")]
        node: u64,
        /// The cluster's id.
        #[arg(long, value_name = "ID")]
        cluster: u64,
        #[command(flatten)]
        authority: AuthorityFiles,
    },
    /// Create a client's certificate and key: client-NAME.pem and client-NAME.key.
    ///
    /// Nodes do not verify them yet: the client API has no TLS.
    Client {
        /// The client's name: 1 to 56 characters of a-z, 0-9 and -.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        authority: AuthorityFiles,
    },
}

/// The files of the signing authority, and the output folder.
#[derive(Debug, clap::Args)]
pub(super) struct AuthorityFiles {
    /// The authority's certificate.
    #[arg(long, default_value = "ca.pem", value_name = "FILE")]
    ca: PathBuf,
    /// The authority's key.
    #[arg(long, default_value = "ca.key", value_name = "FILE")]
    ca_key: PathBuf,
    /// Folder to which the files are written.
    #[arg(long, default_value = ".", value_name = "DIR")]
    out: PathBuf,
}

impl Cert {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Ca { cluster, out } => {
                let cluster = ClusterId(cluster.unwrap_or_else(new_cluster_id));
                let authority = CertificateAuthority::new(cluster)?;
                write_authority(&authority, &out)?;
                println!("cluster {cluster}");
                report(&out, "ca")
            }
            Self::Node { node, cluster, authority } => {
                let issued = authority.load()?.issue_node(ClusterId(cluster), NodeId(node))?;
                authority.write(&issued, &format!("node-{node}"))
            }
            Self::Client { name, authority } => {
                let issued = authority.load()?.issue_client(&name)?;
                authority.write(&issued, &format!("client-{name}"))
            }
        }
    }
}

impl AuthorityFiles {
    fn load(&self) -> anyhow::Result<CertificateAuthority> {
        let read = |file: &Path| {
            fs::read_to_string(file).with_context(|| {
                format!("cannot read {}: create it with `synod cert ca`", file.display())
            })
        };
        CertificateAuthority::from_pem(&read(&self.ca)?, &read(&self.ca_key)?)
            .with_context(|| format!("cannot sign with the authority {}", self.ca.display()))
    }

    fn write(&self, issued: &IssuedCertificate, name: &str) -> anyhow::Result<()> {
        write_issued(issued, &self.out, name)?;
        report(&self.out, name)
    }
}

fn report(folder: &Path, name: &str) -> anyhow::Result<()> {
    for extension in ["pem", "key"] {
        println!("wrote {}", path(folder, name, extension).display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reloaded_authority_signs_and_no_key_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().to_owned();
        Cert::Ca { cluster: Some(7), out: out.clone() }.run().unwrap();
        let authority = || AuthorityFiles {
            ca: out.join("ca.pem"),
            ca_key: out.join("ca.key"),
            out: out.clone(),
        };
        Cert::Node { node: 2, cluster: 7, authority: authority() }.run().unwrap();
        Cert::Client { name: "backup".into(), authority: authority() }.run().unwrap();
        for file in ["node-2.pem", "node-2.key", "client-backup.pem", "client-backup.key"] {
            assert!(out.join(file).exists(), "{file}");
        }
        let again = Cert::Node { node: 2, cluster: 7, authority: authority() }.run();
        assert!(again.unwrap_err().to_string().contains("node-2.key already exists"));
        assert!(Cert::Node { node: 0, cluster: 7, authority: authority() }.run().is_err());
    }

    #[cfg(unix)]
    #[test]
    fn key_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        Cert::Ca { cluster: None, out: folder.path().to_owned() }.run().unwrap();
        let mode = fs::metadata(folder.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
