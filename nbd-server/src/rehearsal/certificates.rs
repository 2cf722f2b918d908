//! An authority and one certificate it has signed, for either side of TLS; made anew each time.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::Path;

/// The name of both sides.
pub(crate) const NAME: &str = "localhost";

/// Writes the files of [`Tls::load`](crate::Tls::load) into a directory.
pub(crate) fn write(directory: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    fs::write(directory.join("ca-cert.pem"), params.self_signed(&key).expect("signed").pem())
        .expect("written");
    let authority = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new([NAME.to_owned()]).expect("a name");
    let certificate = certificate.signed_by(&key, &authority).expect("signed").pem();
    fs::write(directory.join("server-cert.pem"), certificate).expect("written");
    fs::write(directory.join("server-key.pem"), key.serialize_pem()).expect("written");
}
