//! TLS with the clients people use, and certificates that must not do.

use super::{Place, end, path, run};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An authority, and a directory of certificates as QEMU and libnbd want it.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A directory with a certificate for `name`, for either role, that ended in `ended` if it has.
    pub(crate) fn directory(
        &self,
        place: &Place,
        directory: &str,
        name: &str,
        ended: Option<i32>,
    ) -> PathBuf {
        let directory = place.path(directory);
        fs::create_dir(&directory).expect("a new directory");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial(name));
        if let Some(year) = ended {
            params.not_after = date_time_ymd(year, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").pem();
        fs::write(directory.join("ca-cert.pem"), &self.certificate).expect("written");
        for role in ["server", "client"] {
            fs::write(directory.join(format!("{role}-cert.pem")), &certificate).expect("written");
            fs::write(directory.join(format!("{role}-key.pem")), key.serialize_pem()).expect("written");
        }
        directory
    }

    /// A list that takes the certificates of this name back.
    fn revoke(&self, directory: &Path, name: &str) {
        let revoked = RevokedCertParams {
            serial_number: serial(name),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2200, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("signed").pem().expect("PEM");
        fs::write(directory.join("ca-crl.pem"), list).expect("written");
    }
}

/// Names are short, and each is a number of its own.
fn serial(name: &str) -> SerialNumber {
    SerialNumber::from_slice(name.as_bytes())
}

fn secure_uri(place: &Place, export: &str, certificates: &Path) -> String {
    let socket = place.path("nbd.sock");
    // libnbd checks a host's name on TCP only; on a Unix socket it trusts the authority.
    format!("nbds+unix:///{export}?socket={}&tls-certificates={}", socket.display(), certificates.display())
}

/// What a client says who is not let in.
fn refusal(uri: &str) -> String {
    let output = Command::new("nbdinfo").args(["--size", uri]).stdin(Stdio::null()).output();
    let output = output.expect("nbdinfo starts (see scripts/install-test-tools)");
    assert!(!output.status.success(), "it was let in");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether a client gets so far as to know the size.
fn is_let_in(uri: &str) -> bool {
    let status =
        Command::new("nbdinfo").args(["--size", uri]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.expect("nbdinfo starts (see scripts/install-test-tools)").success()
}

/// A pool with the volume `v`, an authority, and what a server of its shows.
fn with_server() -> (Place, Authority, PathBuf) {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "64M"]);
    let authority = Authority::new("operator");
    let server = authority.directory(&place, "server", "localhost", None);
    (place, authority, server)
}

#[test]
fn whoever_has_a_certificate_of_the_authority_is_served_over_tls_and_nobody_else() {
    let (place, authority, server) = with_server();
    let good = authority.directory(&place, "good", "host7", None);
    let daemon = place.serve(&["--tls", path(&server), "--tls-required", "--tcp", "127.0.0.1:0"]);
    assert!(daemon.ready.contains(" nbds+unix:///?socket=") && daemon.ready.contains(" nbds://127.0.0.1:"));

    let uri = secure_uri(&place, "v", &good);
    let told = run("nbdinfo", &["--json", &uri]);
    assert!(told.contains("\"TLS\": true") && told.contains("\"structured\": true"), "{told}");
    let golden = place.path("golden.raw");
    run("qemu-img", &["create", "-q", "-f", "raw", path(&golden), "64M"]);
    run("qemu-io", &["-f", "raw", "-c", "write -P 0x5a 1M 20M", path(&golden)]);
    run("nbdcopy", &["--connections=4", path(&golden), &uri]);
    let back = place.path("back.raw");
    run("nbdcopy", &["--connections=4", &uri, path(&back)]);
    assert!(fs::read(&golden).expect("there") == fs::read(&back).expect("there"));

    // QEMU, over TCP, with the host's name checked.
    let port = daemon.ready.trim().rsplit(':').next().expect("a port").to_owned();
    let credentials = format!("tls-creds-x509,id=t,dir={},endpoint=client", good.display());
    let options =
        format!("driver=nbd,server.type=inet,server.host=localhost,server.port={port},export=v,tls-creds=t");
    let compare = ["compare", "--object", &credentials, "--image-opts", "-T", "none"];
    let raw = format!("driver=raw,file.driver=file,file.filename={}", golden.display());
    run("qemu-img", &[&compare[..], &[&raw, &options]].concat());

    let stranger = Authority::new("stranger").directory(&place, "stranger", "host7", None);
    let expired = authority.directory(&place, "expired", "host7", Some(2001));
    let nobody = place.path("nobody");
    fs::create_dir(&nobody).expect("a new directory");
    fs::copy(good.join("ca-cert.pem"), nobody.join("ca-cert.pem")).expect("copied");
    fs::copy(good.join("ca-cert.pem"), stranger.join("ca-cert.pem")).expect("copied");
    // The client has believed the server by then: it is the server that does not believe the client.
    for directory in [&stranger, &expired, &nobody] {
        let told = refusal(&secure_uri(&place, "v", directory));
        assert!(told.contains("nbd_connect_uri") && !told.contains("certificate verif"), "{told}");
    }
    assert!(!is_let_in(&super::uri(&place, "v")), "in the open nothing is told");
    assert!(is_let_in(&uri), "and the right one is served as before");
    end(&place, daemon);
}

#[test]
fn a_certificate_opens_the_exports_that_are_granted_to_its_name_and_shows_no_others() {
    let place = Place::new().with_pool();
    for name in ["vm1", "vm2", "secret"] {
        place.ok(&["volume", "create", name, "--size", "1M"]);
    }
    place.ok(&["snap", "create", "vm1@hidden", "vm2@shown"]);
    let authority = Authority::new("operator");
    let server = authority.directory(&place, "server", "localhost", None);
    let host = authority.directory(&place, "host", "Host7", None);
    let other = authority.directory(&place, "other", "host8", None);
    let grants = ["--tls-allow", "host7=vm1,vm2*", "--tls-allow", "host9=secret"];
    let daemon = place.serve(&[&["--tls", path(&server), "--tcp", "127.0.0.1:0"][..], &grants].concat());
    for (directory, export, is_granted) in [
        (&host, "vm1", true),
        (&host, "vm2@shown", true),
        (&host, "vm1@hidden", false),
        (&host, "secret", false),
        (&host, "nobody", false),
        (&other, "vm1", false),
    ] {
        assert_eq!(is_let_in(&secure_uri(&place, export, directory)), is_granted, "{export}");
    }
    let listed = run("nbdinfo", &["--list", &secure_uri(&place, "", &host)]);
    for shown in ["vm1", "vm2@shown", "qemu:dirty-bitmap:shown"] {
        assert!(listed.contains(shown), "{shown}: {listed}");
    }
    assert!(!listed.contains("secret") && !listed.contains("hidden"), "{listed}");
    assert!(is_let_in(&super::uri(&place, "secret")), "a Unix socket has its mode to say who may connect");
    let port = daemon.ready.trim().rsplit(':').next().expect("a port");
    let told = refusal(&format!("nbd://127.0.0.1:{port}/vm1"));
    assert!(told.contains("TLS"), "a port has no mode: {told}");
    end(&place, daemon);
}

#[test]
fn a_certificate_that_was_taken_back_is_worth_nothing() {
    let (place, authority, server) = with_server();
    let lost = authority.directory(&place, "lost", "lost", None);
    let kept = authority.directory(&place, "kept", "kept", None);
    authority.revoke(&server, "lost");
    let daemon = place.serve(&["--tls", path(&server)]);
    assert!(is_let_in(&secure_uri(&place, "v", &kept)));
    assert!(!is_let_in(&secure_uri(&place, "v", &lost)));
    end(&place, daemon);
    std::os::unix::fs::symlink("nowhere", server.join("again.pem")).expect("linked");
    fs::rename(server.join("again.pem"), server.join("ca-crl.pem")).expect("replaced");
    place.run(&["serve", "--tls", path(&server)]).fails(2, "ca-crl.pem");
}

#[test]
fn what_is_missing_for_tls_is_named_and_without_it_nobody_listens_beyond_the_machine() {
    let (place, _, server) = with_server();
    fs::remove_file(server.join("server-key.pem")).expect("removed");
    place.run(&["serve", "--tls", path(&server)]).fails(2, "server-key.pem");
    place.run(&["serve", "--tcp", "192.0.2.1:10809"]).fails(2, "without TLS");
}
