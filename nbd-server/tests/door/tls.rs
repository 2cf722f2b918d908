//! What a client, or somebody in between, sends in the open behind STARTTLS is no part of what is said in TLS.

use crate::served::client::{ACK, OPT_ABORT, OPT_LIST, raw_option};
use crate::served::{MIB, PATIENCE, ServedPool};
use nbd_server::{Listen, Server, ServerOptions, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

const OPT_STARTTLS: u32 = 5;

/// An authority and one certificate, for either side.
fn write_certificates(directory: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    fs::write(directory.join("ca-cert.pem"), params.self_signed(&key).expect("signed").pem())
        .expect("written");
    let authority = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = certificate.signed_by(&key, &authority).expect("signed").pem();
    fs::write(directory.join("server-cert.pem"), certificate).expect("written");
    fs::write(directory.join("server-key.pem"), key.serialize_pem()).expect("written");
}

fn client(directory: &Path) -> ClientConnection {
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
    ClientConnection::new(Arc::new(config), "localhost".try_into().expect("a name")).expect("a connection")
}

fn read(stream: &mut impl Read, count: usize) -> Vec<u8> {
    let mut raw = vec![0; count];
    stream.read_exact(&mut raw).expect("the server answers");
    raw
}

#[test]
fn words_put_in_front_of_tls_are_thrown_away() {
    let served = ServedPool::start(&[("desk", MIB)]);
    let directory = tempfile::tempdir().expect("a directory");
    write_certificates(directory.path());
    let path = directory.path().join("secure.sock");
    let options = ServerOptions {
        listen: vec![Listen::Unix { path: path.clone(), mode: 0o600 }],
        tls: Some(Tls::load(directory.path(), Vec::new()).expect("certificates")),
        tls_required: true,
        workers: 1,
        ..ServerOptions::default()
    };
    let server = Server::start(&served.pool, options).expect("a server");
    let mut stream = UnixStream::connect(&path).expect("a server that listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(read(&mut stream, 18), b"NBDMAGICIHAVEOPT\0\x03");
    let put_in_front = raw_option(OPT_ABORT, b"");
    stream
        .write_all(&[&[0, 0, 0, 3][..], &raw_option(OPT_STARTTLS, b""), &put_in_front].concat())
        .expect("sent");
    let reply = read(&mut stream, 20);
    assert_eq!((&reply[11..12], &reply[12..16]), (&[5][..], &ACK.to_be_bytes()[..]));

    let mut tls = client(directory.path());
    let mut secure = Stream::new(&mut tls, &mut stream);
    secure.write_all(&raw_option(OPT_LIST, b"")).expect("sent");
    let listed = read(&mut secure, 20);
    assert_eq!(
        (listed[11], &listed[12..16]),
        (3, &[0, 0, 0, 2][..]),
        "the list, and no word about another option"
    );
    let length = usize::from(listed[19]);
    assert!(read(&mut secure, length).windows(4).any(|word| word == b"desk"));
    drop(stream);
    server.shutdown();
    served.end();
}
