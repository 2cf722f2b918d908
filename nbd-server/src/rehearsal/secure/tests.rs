use super::{Stage, Talk};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, proptest};

/// The kinds of [`Talk::happen`]; damage is the last.
const KINDS: u8 = 10;

/// Plays a conversation in which one of the client's flights arrives in two pieces. How long that flight was.
fn cut_in_two(stage: &Stage, flight: usize, cut: usize) -> usize {
    let mut talk = Talk::new(&stage.tls, &stage.client);
    // Whatever a client says before the handshake is over goes out right behind its last word of it.
    talk.client_says(300);
    let mut length = 0;
    for number in 0..3 {
        if number == 2 {
            talk.server_updates_keys();
            talk.server_says(500);
            talk.client_updates_keys();
            talk.client_says(200);
            talk.arrive_at_client(usize::MAX);
            talk.client_says(100);
            talk.client_updates_keys();
            talk.client_closes();
        }
        if number == flight {
            length = talk.to_server.len();
            talk.arrive_at_server(cut);
        }
        talk.arrive_at_server(usize::MAX);
        talk.arrive_at_client(usize::MAX);
    }
    talk.end(usize::MAX);
    assert_eq!((talk.server_heard, talk.client_heard), (600, 500));
    assert!(talk.server.has_ended());
    length
}

#[test]
fn records_may_be_cut_at_every_byte() {
    let stage = Stage::new();
    for flight in 0..3 {
        let length = cut_in_two(&stage, flight, 0);
        assert!(length > 200, "flight {flight} has {length} bytes");
        for cut in 1..length {
            cut_in_two(&stage, flight, cut);
        }
    }
}

#[test]
fn words_behind_the_last_one_do_not_count() {
    let stage = Stage::new();
    let mut talk = Talk::new(&stage.tls, &stage.client);
    talk.end(usize::MAX);
    talk.client_says(100);
    talk.client_closes();
    let behind = talk.to_server.clone();
    talk.to_server.extend(behind);
    talk.to_server.extend([7; 1000]);
    talk.end(5);
    assert_eq!(talk.server_heard, 100);
}

#[test]
fn what_was_damaged_ends_the_conversation() {
    let stage = Stage::new();
    let mut talk = Talk::new(&stage.tls, &stage.client);
    talk.end(usize::MAX);
    talk.client_says(100);
    talk.arrive_at_server(usize::MAX);
    talk.client_says(100);
    talk.damage(50);
    talk.client_says(100);
    talk.end(usize::MAX);
    assert!(talk.is_over);
    assert_eq!(talk.server_heard, 100, "nothing of a damaged record, nor of those behind it");
}

fn events(kinds: u8) -> impl Strategy<Value = Vec<u8>> {
    let event = (0..kinds, any::<u8>()).prop_map(|(kind, amount)| [kind, amount]);
    (any::<u8>(), prop::collection::vec(event, 0..30))
        .prop_map(|(piece, events)| [vec![piece], events.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn each_side_hears_what_the_other_has_said(script in events(KINDS - 1)) {
        Stage::new().rehearse(&script);
    }

    #[test]
    fn damage_costs_words_and_nothing_else(script in events(KINDS)) {
        Stage::new().rehearse(&script);
    }
}
