//! The control socket of a daemon: who it answers, and what it takes from whoever gets in.

mod cli_program;

use cli_program::Place;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

fn socket(place: &Place) -> PathBuf {
    let entries = fs::read_dir(place.run_directory()).expect("readable");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    paths.find(|path| path.extension().is_some_and(|ending| ending == "sock")).expect("a control socket")
}

fn ask(place: &Place, line: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket(place)).expect("it listens");
    stream.write_all(line).expect("sent");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("text");
    answer
}

#[test]
fn nonsense_is_answered_or_hung_up_on_and_the_daemon_goes_on() {
    let place = Place::new().with_pool();
    let daemon = place.serve(&[]);
    for line in [&b"\n"[..], b"{}\n", b"[1,2]\n", b"{\"ask\":\"format_c\"}\n"] {
        let answer = ask(&place, line);
        assert!(answer.contains("\"answer\":\"failed\"") && answer.contains("\"usage\""), "{answer}");
    }
    assert_eq!(ask(&place, b"\xff\xfe\n"), "", "what is no text is hung up on");
    let name = "{\"ask\":\"create_volume\",\"name\":\"../x\",\"size\":4096}\n";
    assert!(ask(&place, name.as_bytes()).contains("starts with '.'"));
    let answer = ask(&place, b"{\"ask\":\"status\"}\n");
    assert!(answer.contains("\"answer\":\"status\""), "{answer}");
    drop(UnixStream::connect(socket(&place)).expect("a caller who says nothing"));
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

#[test]
fn the_socket_is_private_and_goes_with_the_daemon() {
    let place = Place::new().with_pool();
    let daemon = place.serve(&[]);
    let path = socket(&place);
    let mode = |path: &std::path::Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(place.run_directory())), (0o600, 0o700));
    let mut waiting = UnixStream::connect(&path).expect("it listens");
    assert_eq!(daemon.stop().code, Some(0));
    assert!(!path.exists());
    let mut rest = Vec::new();
    assert_eq!(waiting.read_to_end(&mut rest).expect("closed"), 0, "a caller who waits is let go");
}

#[test]
fn more_callers_than_there_are_places_are_told_so() {
    let place = Place::new().with_pool();
    let daemon = place.serve(&[]);
    let path = socket(&place);
    let idle: Vec<UnixStream> = (0..32).map(|_| UnixStream::connect(&path).expect("a place")).collect();
    place.run(&["volume", "create", "v", "--size", "1M"]).fails(4, "32 commands are under way");
    drop(idle);
    assert_eq!(daemon.stop().code, Some(0));
}
