//! The other side of TLS: a client with the certificate of a directory.

use super::certificates::NAME;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// What the clients of a directory written by [`certificates::write`](super::certificates::write) are made of.
pub(crate) fn load(directory: &Path) -> Arc<ClientConfig> {
    let pem = |name: &str| CertificateDer::from_pem_file(directory.join(name)).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(pem("ca-cert.pem")).expect("an authority");
    let key = PrivateKeyDer::from_pem_file(directory.join("server-key.pem")).expect("a key");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![pem("server-cert.pem")], key)
        .expect("a certificate");
    Arc::new(config)
}

pub(crate) fn connection(config: &Arc<ClientConfig>) -> ClientConnection {
    let mut connection =
        ClientConnection::new(config.clone(), NAME.try_into().expect("a name")).expect("a connection");
    connection.set_buffer_limit(None);
    connection
}
