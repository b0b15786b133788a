//! Certificates as files, for `synod cert` and `synod dev`.

use anyhow::{Context, bail};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use synod_transport::certificates::{CertificateAuthority, IssuedCertificate};

/// Writes an authority as `ca.pem` and `ca.key`.
///
/// # Errors
/// If the folder cannot be made, or one of the files is there already.
pub(crate) fn write_authority(
    authority: &CertificateAuthority,
    folder: &Path,
) -> anyhow::Result<()> {
    let (certificate, key) = (authority.certificate_pem().to_owned(), authority.key_pem());
    write_issued(&IssuedCertificate { certificate, key }, folder, "ca")
}

/// Writes a certificate as `NAME.pem` and its key as `NAME.key`.
///
/// # Errors
/// If the folder cannot be made, or one of the files is there already: a key is never replaced.
pub(crate) fn write_issued(
    issued: &IssuedCertificate,
    folder: &Path,
    name: &str,
) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (key, certificate) = (path(folder, name, "key"), path(folder, name, "pem"));
    if let Some(there) = [&key, &certificate].into_iter().find(|file| file.exists()) {
        bail!("{} is there already, and is not replaced", there.display());
    }
    write_new(&key, &issued.key, true)?;
    write_new(&certificate, &issued.certificate, false)
}

/// A cluster id that no other cluster is likely to have; fits into a TOML integer and a JSON
/// number.
pub(crate) fn new_cluster_id() -> u64 {
    synod_runtime::random() >> 11
}

/// Returns the file of a certificate or a key.
pub(crate) fn path(folder: &Path, name: &str, extension: &str) -> PathBuf {
    folder.join(format!("{name}.{extension}"))
}

fn write_new(file: &Path, text: &str, secret: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if secret { 0o600 } else { 0o644 });
    let written = options.open(file).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_fits_into_a_json_number() {
        assert!((0..100).all(|_| new_cluster_id() < 1 << 53));
    }
}
