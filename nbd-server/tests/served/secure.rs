//! One more server of a pool, which talks over TLS only.

use super::client::{Client, OPT_STARTTLS};
use super::{certificates, tls_client};
use nbd_server::{Listen, Server, ServerOptions, Tls};
use rustls::ClientConfig;
use std::path::PathBuf;
use std::sync::Arc;
use thinpool::Pool;

#[derive(Debug)]
pub(crate) struct SecureServer {
    server: Server,
    client: Arc<ClientConfig>,
    directory: tempfile::TempDir,
}

impl SecureServer {
    pub(crate) fn start(pool: &Pool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        certificates::write(directory.path());
        let options = ServerOptions {
            listen: vec![Listen::Unix { path: directory.path().join("secure.sock"), mode: 0o600 }],
            tls: Some(Tls::load(directory.path(), Vec::new()).expect("certificates")),
            tls_required: true,
            workers: 1,
            ..ServerOptions::default()
        };
        let server = Server::start(pool, options).expect("a server");
        Self { server, client: tls_client::load(directory.path()), directory }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("secure.sock")
    }

    /// The client's side of a new connection.
    pub(crate) fn tls(&self) -> rustls::ClientConnection {
        tls_client::connection(&self.client)
    }

    /// A client that has been greeted and has started TLS.
    pub(crate) fn connect(&self) -> Client {
        let mut client = Client::connect(&self.socket());
        assert_eq!(client.option(OPT_STARTTLS, b"").len(), 1);
        Client { stream: client.stream.secure(self.tls()), ..client }
    }

    pub(crate) fn end(self) {
        self.server.shutdown();
    }
}
