//! The daemon under a service manager: sockets that are handed to it, readiness, signs of life, and the units.

use crate::cli_program::{Daemon, Place, end};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

fn with_volume() -> Place {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "24M"]);
    place
}

#[test]
fn a_client_that_brings_the_socket_finds_the_daemon_on_it() {
    let place = with_volume();
    let daemon = place.command(&["serve", "--default-export", "v"]);
    let mut client = Command::new("nbdinfo");
    client.args(["--size", "--", "["]).arg(daemon.get_program()).args(daemon.get_args()).arg("]");
    client.envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    client.current_dir(place.path("")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let told = end(client.spawn().expect("nbdinfo starts (see scripts/install-test-tools)"));
    assert_eq!((told.code, told.out.as_str()), (Some(0), "25165824\n"), "{}", told.err);
    assert!(told.err.contains("ready nbd+unix:///?socket="), "{}", told.err);
}

#[test]
fn the_manager_hears_that_the_daemon_is_ready_and_alive_and_ends() {
    let place = with_volume();
    let path = place.path("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let hear = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).expect("the daemon says something");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    let mut command = place.command(&["serve", "--socket", "nbd.sock"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let daemon = Daemon::start(&mut command);
    let mut heard = vec![hear()];
    while heard.iter().filter(|word| *word == "WATCHDOG=1").count() < 3
        || !heard.contains(&"READY=1".to_owned())
    {
        heard.push(hear());
        assert!(heard.len() < 1000, "{heard:?}");
    }
    let ended = daemon.stop();
    while heard.last().is_none_or(|word| word != "STOPPING=1") {
        heard.push(hear());
    }
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

#[test]
fn the_units_are_what_systemd_understands() {
    let place = Place::new();
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/systemd");
    for unit in ["offshoot.service", "offshoot@.service", "offshoot@.socket"] {
        let text = std::fs::read_to_string(format!("{units}/{unit}")).expect("the unit");
        // Where the program is, of all that the unit says, is another matter on this machine.
        let text = text.replace("/usr/bin/offshoot ", concat!(env!("CARGO_BIN_EXE_offshoot"), " "));
        std::fs::write(place.path(&unit.replace('@', "@p0")), text).expect("written");
    }
    let mut verify = Command::new("systemd-analyze");
    verify
        .args(["verify", "--man=no", "offshoot.service", "offshoot@p0.service", "offshoot@p0.socket"])
        .current_dir(place.path(""));
    verify.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let verified = end(verify.spawn().expect("systemd-analyze starts (see scripts/install-test-tools)"));
    assert_eq!((verified.code, verified.err.as_str()), (Some(0), ""));
}
