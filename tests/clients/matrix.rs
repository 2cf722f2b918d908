//! Every kind of client on every kind of connection: simple and structured replies by libnbd with strict mode off, extended
//! headers by QEMU where it has them, over Unix sockets, TCP and TLS, to what may be written and what may not.

use super::secure::Authority;
use super::{Place, end, path, run};
use std::path::Path;

/// Where the daemon is met.
struct Way {
    /// What libnbd is told; `EXPORT` stands for the export.
    uri: String,
    /// What QEMU is told.
    qemu: Vec<String>,
}

fn ways(place: &Place, ready: &str, certificates: &Path) -> Vec<Way> {
    let socket = place.path("nbd.sock");
    let port = ready.trim().rsplit(':').next().expect("a port").to_owned();
    let inet = format!("driver=nbd,server.type=inet,server.host=localhost,server.port={port},export=EXPORT");
    let credentials = format!("tls-creds-x509,id=t,dir={},endpoint=client", path(certificates));
    let object = |options: &str| {
        vec!["--object".to_owned(), credentials.clone(), "--image-opts".to_owned(), options.to_owned()]
    };
    vec![
        Way {
            uri: format!("nbd+unix:///EXPORT?socket={}", socket.display()),
            qemu: object(&format!(
                "driver=nbd,server.type=unix,server.path={},export=EXPORT",
                socket.display()
            )),
        },
        Way { uri: format!("nbd://127.0.0.1:{port}/EXPORT"), qemu: object(&inet) },
        Way {
            uri: format!("nbds://localhost:{port}/EXPORT?tls-certificates={}", certificates.display()),
            qemu: object(&format!("{inet},tls-creds=t")),
        },
    ]
}

#[test]
fn every_client_is_served_in_every_way() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "64M"]);
    let certificates = Authority::new("operator").directory(&place, "certificates", "localhost", None);
    let daemon = place.serve(&["--tls", path(&certificates), "--tcp", "127.0.0.1:0"]);
    place.ok(&["snap", "create", "v@s"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/matrix.py");
    for Way { uri, qemu } in ways(&place, &daemon.ready, &certificates) {
        for (export, mode) in [("v", "rw"), ("v@s", "ro")] {
            let uri = uri.replace("EXPORT", export);
            for dialect in ["simple", "structured"] {
                // Not the first python on the way, which may be another than the library's.
                run("/usr/bin/python3", &[script, &uri, mode, dialect]);
            }
            run("nbdinfo", &["--json", &uri]);
            run("nbdcopy", &["--connections=4", &uri, "null:"]);
        }
        let qemu: Vec<String> = qemu.iter().map(|argument| argument.replace("EXPORT", "v")).collect();
        let commands = [
            "write -P 0xcd -f 8M 64k",
            "read -P 0xcd 8M 64k",
            "write -P 0xef 8390000 777",
            "read -P 0xef 8390000 777",
            "write -z -u 8M 1M",
            "read -P 0 8M 1M",
            "discard 10M 64k",
            "aio_write -P 1 11M 4k",
            "aio_flush",
            "flush",
            "read -P 1 11M 4k",
        ];
        let commands = commands.iter().flat_map(|command| ["-c".to_owned(), (*command).to_owned()]);
        let told = run("qemu-io", &qemu.iter().cloned().chain(commands).collect::<Vec<_>>());
        assert!(!told.contains("failed") && !told.contains("error"), "{told}");
        run("qemu-img", &[&["info".to_owned()], &qemu[..]].concat());
        run("qemu-img", &[&["map".to_owned()], &qemu[..]].concat());
    }
    end(&place, daemon);
}

#[test]
fn the_kernels_tool_lists_the_exports() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "1M"]);
    let daemon = place.serve(&["--tcp", "127.0.0.1:0"]);
    let port = daemon.ready.trim().rsplit(':').next().expect("a port").to_owned();
    let socket = place.path("nbd.sock");
    for way in [&["-l", "-unix", path(&socket)][..], &["-l", "127.0.0.1", &port]] {
        let listed = run("nbd-client", way);
        assert!(listed.lines().any(|line| line.trim().starts_with('v')), "{listed}");
    }
    end(&place, daemon);
}
