//! Who may start TLS, and what a client's certificate opens to it.
//!
//! TLS 1.3 and nothing older; every client shows a certificate that the operator's authority signed ("TLS support" of the
//! specification: SELECTIVETLS on loopback addresses and Unix sockets, FORCEDTLS beyond). Names are DNS names of the
//! certificate's subject alternative names. Pre-shared keys are not there: the library has none for servers.

use crate::error::Error;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use webpki::EndEntityCert;

/// Files of the directory, named as QEMU and libnbd name them.
const AUTHORITY: &str = "ca-cert.pem";
const CERTIFICATE: &str = "server-cert.pem";
const KEY: &str = "server-key.pem";
/// Certificates that count no more; may be missing.
const REVOKED: &str = "ca-crl.pem";

/// What a server shows its clients, and asks of them.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    grants: Arc<[Grant]>,
}

/// Certificates with the name may have exports that match a pattern. Without any grant, every certificate may have all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    name: String,
    exports: Vec<String>,
}

/// What a client may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    All,
    /// Exports that match one of the patterns.
    Matching(Vec<String>),
}

/// Where TLS is required of those who connect from the machine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// There is no TLS.
    None,
    /// Nowhere: the machine says who may connect.
    Beyond,
    /// On TCP, because certificates say who may have what, and anybody on the machine can connect to a port.
    Tcp,
    Everywhere,
}

/// What one connection may do about TLS before it chooses an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stance {
    /// There is none.
    Refused,
    Offered,
    /// Nothing is told before.
    Required,
    /// It is there.
    Started,
}

impl Tls {
    /// Reads `ca-cert.pem`, `server-cert.pem`, `server-key.pem` and, if it is there, `ca-crl.pem` of a directory.
    ///
    /// # Errors
    /// When a file cannot be read, or is not what it should be.
    pub fn load(directory: &Path, grants: Vec<Grant>) -> Result<Self, Error> {
        let path = |name| directory.join(name);
        let wrong = |name, why: &dyn fmt::Display| Error::Tls { file: path(name), why: why.to_string() };
        let mut roots = RootCertStore::empty();
        for authority in certificates(&path(AUTHORITY))? {
            roots.add(authority).map_err(|error| wrong(AUTHORITY, &error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        // A link to a file that is not there is a mistake, not the absence of a list.
        if path(REVOKED).symlink_metadata().is_ok() {
            clients = clients.with_crls(pems::<CertificateRevocationListDer<'static>>(&path(REVOKED))?);
        }
        let clients = clients.build().map_err(|error| wrong(AUTHORITY, &error))?;
        let key = PrivateKeyDer::from_pem_file(path(KEY)).map_err(|error| wrong(KEY, &error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| wrong(KEY, &error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(certificates(&path(CERTIFICATE))?, key)
            .map_err(|error| wrong(CERTIFICATE, &error))?;
        // A certificate is looked at whenever somebody connects.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), grants: grants.into() })
    }

    pub(crate) fn security(&self, is_required: bool) -> Security {
        match (is_required, self.grants.is_empty()) {
            (true, _) => Security::Everywhere,
            (false, false) => Security::Tcp,
            (false, true) => Security::Beyond,
        }
    }

    pub(crate) fn connection(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(self.config.clone())
    }

    /// What the client at the other end may have, by the certificate it has shown.
    pub(crate) fn access(&self, connection: &ServerConnection) -> Access {
        if self.grants.is_empty() {
            return Access::All;
        }
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.and_then(|certificate| EndEntityCert::try_from(certificate).ok());
        let names: Vec<&str> =
            certificate.iter().flat_map(|certificate| certificate.valid_dns_names()).collect();
        let is_named = |grant: &&Grant| names.iter().any(|name| name.eq_ignore_ascii_case(&grant.name));
        let own = self.grants.iter().filter(is_named);
        Access::Matching(own.flat_map(|grant| grant.exports.iter().cloned()).collect())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tls").field("grants", &self.grants).finish_non_exhaustive()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    pems(path)
}

/// All items of one kind in a file; one at least.
fn pems<T: PemObject>(path: &Path) -> Result<Vec<T>, Error> {
    let wrong = |why: String| Error::Tls { file: path.to_owned(), why };
    let items = T::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let items: Vec<T> = items.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))?;
    if items.is_empty() { Err(wrong("nothing of the kind is in it".to_owned())) } else { Ok(items) }
}

/// `NAME=EXPORT,EXPORT`, where `*` in an export stands for any characters.
impl FromStr for Grant {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, exports) =
            text.split_once('=').ok_or("it lacks the '=' between a name and its exports")?;
        let exports: Vec<String> = exports.split(',').map(str::to_owned).collect();
        if name.is_empty() || exports.iter().any(String::is_empty) {
            return Err("a name or an export of it is empty");
        }
        Ok(Self { name: name.to_owned(), exports })
    }
}

impl Access {
    pub(crate) fn allows(&self, export: &str) -> bool {
        match self {
            Self::All => true,
            Self::Matching(patterns) => patterns.iter().any(|pattern| matches(pattern, export)),
        }
    }
}

/// Each part between stars is found behind the one before it; the first begins the text, the last ends it.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(front) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(place) => left = &left[place + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::{Access, Grant, matches};

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text) in
            [("vm*", "vm"), ("vm*", "vm07"), ("*", ""), ("*@v1", "golden@v1"), ("a*b*c", "aXbYc")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("vm", "vm1"), ("vm*", "xvm"), ("*@v1", "golden@v12"), ("a*b*c", "acb"), ("a*a", "a")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_grant_names_a_host_and_its_exports() {
        let grant: Grant = "Host7.example=vm7,golden@*".parse().expect("a grant");
        assert_eq!((grant.name.as_str(), grant.exports.len()), ("Host7.example", 2));
        for wrong in ["host7", "=vm7", "host7=", "host7=vm1,"] {
            assert!(wrong.parse::<Grant>().is_err(), "{wrong}");
        }
        assert!(Access::All.allows("anything"));
        assert!(!Access::Matching(Vec::new()).allows("anything"));
        assert!(Access::Matching(grant.exports).allows("golden@v3"));
    }
}
