//! The certificate that the product serves with.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use axum_server::tls_rustls::RustlsConfig;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

/// A certificate for this machine, signed by itself. It stands in a folder of its own for whoever has to be told to
/// believe it; its private key is in memory alone.
#[derive(Debug)]
pub(crate) struct Certificate {
    folder: TempDir,
    path: PathBuf,
}

impl Certificate {
    /// A new one, and what serves with it.
    pub(crate) async fn make() -> Result<(Self, RustlsConfig), Box<dyn Error>> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
        let folder = tempfile::Builder::new()
            .prefix("workspace-reports-")
            .tempdir()?;
        let path = folder.path().join("certificate.pem");
        fs::write(&path, cert.pem())?;
        let chain = vec![cert.der().to_vec()];
        let config = RustlsConfig::from_der(chain, signing_key.serialize_der()).await?;
        Ok((Self { folder, path }, config))
    }

    /// Where it stands, in PEM.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes its folder; dropping it does so too, and tells nobody if it cannot.
    pub(crate) fn remove(self) -> io::Result<()> {
        self.folder.close()
    }
}
