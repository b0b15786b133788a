//! Writing of certificate files, for `synod cert` and `synod dev`.

use anyhow::{Context, bail};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use synod_transport::certificates::{CertificateAuthority, IssuedCertificate};

/// Writes an authority as `ca.pem` and `ca.key`.
///
/// # Errors
/// If the folder cannot be created, or one of the files exists.
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
/// If the folder cannot be created, or one of the files exists: a key is never replaced.
pub(crate) fn write_issued(
    issued: &IssuedCertificate,
    folder: &Path,
    name: &str,
) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let (key, certificate) = (path(folder, name, "key"), path(folder, name, "pem"));
    if let Some(existing) = [&key, &certificate].into_iter().find(|file| file.exists()) {
        bail!("{} already exists: move it away, or name another folder", existing.display());
    }
    write_new(&key, &issued.key, true)?;
    write_new(&certificate, &issued.certificate, false)
}

/// Returns a random cluster id below 2^53, which fits into a TOML integer and a JSON number.
pub(crate) fn new_cluster_id() -> u64 {
    synod_runtime::random() >> 11
}

/// Returns the path of a certificate or key file.
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
    fn cluster_id_fits_into_a_json_number() {
        assert!((0..100).all(|_| new_cluster_id() < 1 << 53));
    }
}
