use super::{Dialect, Handshake, Progress, Terms};
use crate::contexts::Context;
use crate::fields::Fields;
use crate::limits::{OPTION_DATA_BYTES_MAX, OPTION_SKIP_BYTES_MAX, OPTIONS_MAX, bytes};
use crate::proto::{
    OPT_ABORT, OPT_EXPORT_NAME, OPT_EXTENDED_HEADERS, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META_CONTEXT,
    OPT_SET_META_CONTEXT, OPT_STARTTLS, OPT_STRUCTURED_REPLY, REP_ACK, REP_ERR_EXT_HEADER_REQD,
    REP_ERR_INVALID, REP_ERR_POLICY, REP_ERR_TOO_BIG, REP_ERR_UNKNOWN, REP_ERR_UNSUP, REP_INFO,
    REP_META_CONTEXT, REP_SERVER,
};
use crate::rehearsal::FixedExports;
use crate::tls::Stance;

/// Everything sent to the server comes at once, and every answer is taken at once.
#[derive(Debug)]
struct Client {
    handshake: Handshake,
    exports: FixedExports,
    greeting: Vec<u8>,
}

/// An option reply: its type and its data.
type Reply = (u32, Vec<u8>);

impl Client {
    fn new() -> Self {
        Self::where_tls_is(Stance::Refused)
    }

    fn where_tls_is(tls: Stance) -> Self {
        let mut greeting = Vec::new();
        let exports = FixedExports::new(&[("disk", false), ("disk@old", true)]);
        Self { handshake: Handshake::new(tls, &mut greeting), exports, greeting }
    }

    /// A client that knows fixed newstyle and needs no padding.
    fn greeted() -> Self {
        let mut client = Self::new();
        assert_eq!(client.send(&[0, 0, 0, 3]), (Progress::Hungry, Vec::new()));
        client
    }

    fn send(&mut self, raw: &[u8]) -> (Progress, Vec<u8>) {
        let (mut input, mut out) = (raw, Vec::new());
        loop {
            let progress = self.handshake.advance(&mut input, &mut self.exports, &mut out);
            if progress != Progress::Answered {
                return (progress, out);
            }
        }
    }

    /// Sends one option and reads the replies to it.
    fn ask(&mut self, option: u32, data: &[u8]) -> (Progress, Vec<Reply>) {
        let (progress, out) = self.send(&raw_option(option, data));
        (progress, replies(option, &out))
    }

    /// The type of the last reply, after which the server wants more.
    fn verdict(&mut self, option: u32, data: &[u8]) -> u32 {
        let (progress, replies) = self.ask(option, data);
        assert_eq!(progress, Progress::Hungry, "option {option}");
        replies.last().expect("an answer").0
    }

    fn select(&mut self, name: &str, queries: &[&str]) -> Vec<Reply> {
        self.ask(OPT_SET_META_CONTEXT, &contexts(name, queries)).1
    }

    fn agree(&mut self, name: &str) -> Terms {
        match self.ask(OPT_GO, &go(name)).0 {
            Progress::Agreed(terms) => terms,
            other => panic!("{other:?}"),
        }
    }
}

fn terms(read_only: bool, dialect: Dialect) -> Terms {
    Terms { read_only, dialect, contexts: Vec::new() }
}

fn raw_option(option: u32, data: &[u8]) -> Vec<u8> {
    let mut raw = b"IHAVEOPT".to_vec();
    raw.extend(option.to_be_bytes());
    raw.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
    raw.extend(data);
    raw
}

fn replies(option: u32, raw: &[u8]) -> Vec<Reply> {
    let (mut fields, mut found) = (Fields::new(raw), Vec::new());
    while !fields.is_empty() {
        assert_eq!(fields.u64(), Some(0x0003_e889_0455_65a9));
        assert_eq!(fields.u32(), Some(option));
        let kind = fields.u32().expect("a type");
        let length = bytes(fields.u32().expect("a length"));
        found.push((kind, fields.take(length).expect("the reply's data").to_vec()));
    }
    found
}

fn sized(text: &str) -> Vec<u8> {
    let mut data = u32::try_from(text.len()).expect("short").to_be_bytes().to_vec();
    data.extend(text.as_bytes());
    data
}

fn go(name: &str) -> Vec<u8> {
    let mut data = sized(name);
    data.extend([0, 0]);
    data
}

fn contexts(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = sized(name);
    data.extend(u32::try_from(queries.len()).expect("few").to_be_bytes());
    queries.iter().for_each(|query| data.extend(sized(query)));
    data
}

#[test]
fn the_server_speaks_first() {
    assert_eq!(Client::new().greeting, b"NBDMAGICIHAVEOPT\0\x03");
}

#[test]
fn unknown_client_flags_end_the_connection() {
    for bit in 2..32 {
        assert_eq!(Client::new().send(&(1_u32 << bit).to_be_bytes()), (Progress::Over, Vec::new()));
    }
}

#[test]
fn go_tells_size_flags_names_and_block_sizes_and_agrees() {
    let mut client = Client::greeted();
    assert_eq!(client.verdict(OPT_STRUCTURED_REPLY, b""), REP_ACK);
    let (progress, replies) = client.ask(OPT_GO, &go("disk"));
    assert_eq!(progress, Progress::Agreed(terms(false, Dialect::Structured)));
    assert_eq!(client.exports.opened.as_deref(), Some("disk"));
    let information: Vec<&[u8]> = replies.iter().map(|(_, data)| data.as_slice()).collect();
    assert_eq!(
        replies.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        [REP_INFO; 4].into_iter().chain([REP_ACK]).collect::<Vec<_>>()
    );
    // HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, DF, MULTI_CONN, CACHE, FAST_ZERO.
    assert_eq!(
        information[0],
        [&[0, 0][..], &(1_u64 << 20).to_be_bytes(), &0x0ded_u16.to_be_bytes()].concat()
    );
    assert_eq!(information[1], b"\0\x01disk");
    assert_eq!(information[2], b"\0\x02rehearsed");
    assert_eq!(information[3], [&[0, 3][..], &[0, 0, 0, 1], &[0, 0, 16, 0], &[2, 0, 0, 0]].concat());
}

#[test]
fn a_read_only_export_says_so_and_offers_no_changes() {
    let mut client = Client::greeted();
    let (progress, replies) = client.ask(OPT_GO, &go("disk@old"));
    assert_eq!(progress, Progress::Agreed(terms(true, Dialect::Simple)));
    assert_eq!(replies[0].1[10..], 0x050f_u16.to_be_bytes());
}

#[test]
fn info_opens_nothing_and_the_handshake_goes_on() {
    let mut client = Client::greeted();
    assert_eq!(client.verdict(OPT_INFO, &go("disk")), REP_ACK);
    assert_eq!(client.exports.opened, None);
    assert_eq!(client.agree(""), terms(false, Dialect::Simple));
}

#[test]
fn cve_2013_7441_an_unknown_export_is_an_answer_not_an_end() {
    let mut client = Client::greeted();
    for option in [OPT_INFO, OPT_GO] {
        assert_eq!(client.verdict(option, &go("nobody")), REP_ERR_UNKNOWN);
    }
    assert_eq!(client.verdict(OPT_INFO, &go("disk")), REP_ACK);
}

#[test]
fn cve_2020_10761_a_long_name_is_not_echoed_whole() {
    let mut client = Client::greeted();
    for name in ["n".repeat(4096), "\u{1f980}".repeat(1024), "\n\u{7f}".repeat(2048)] {
        let (progress, replies) = client.ask(OPT_GO, &go(&name));
        assert_eq!((progress, replies[0].0), (Progress::Hungry, REP_ERR_UNKNOWN));
        let text = std::str::from_utf8(&replies[0].1).expect("UTF-8");
        assert!(text.len() <= 256 && !text.contains(char::is_control), "{text:?}");
    }
}

#[test]
fn cve_2022_26495_lengths_that_lie_are_refused_and_the_stream_stays_in_step() {
    let mut client = Client::greeted();
    for length in [5, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffb, 0xffff_ffff] {
        for option in [OPT_INFO, OPT_GO, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT] {
            let mut data = go("disk");
            data[..4].copy_from_slice(&u32::to_be_bytes(length));
            assert_eq!(client.verdict(option, &data), REP_ERR_INVALID);
        }
    }
    assert_eq!(client.verdict(OPT_LIST, b""), REP_ACK);
    for length in [4097, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff_u32] {
        let mut header = raw_option(OPT_EXPORT_NAME, b"");
        header[12..].copy_from_slice(&length.to_be_bytes());
        assert_eq!(Client::greeted().send(&header), (Progress::Over, Vec::new()));
    }
}

#[test]
fn abort_is_acknowledged_and_ends_whatever_data_it_has() {
    for data in [&b""[..], b"why not"] {
        let (progress, replies) = Client::greeted().ask(OPT_ABORT, data);
        assert_eq!((progress, replies), (Progress::Over, vec![(REP_ACK, Vec::new())]));
    }
}

#[test]
fn a_list_names_and_describes_every_export() {
    let mut client = Client::greeted();
    let (_, replies) = client.ask(OPT_LIST, b"");
    assert_eq!(
        replies,
        ["disk", "disk@old"]
            .map(|name| (REP_SERVER, [sized(name), b"rehearsed".to_vec()].concat()))
            .into_iter()
            .chain([(REP_ACK, Vec::new())])
            .collect::<Vec<_>>()
    );
    assert_eq!(client.verdict(OPT_LIST, b"x"), REP_ERR_INVALID);
}

#[test]
fn tls_is_refused_and_structured_replies_take_no_data() {
    let mut client = Client::greeted();
    assert_eq!(client.verdict(OPT_STARTTLS, b""), REP_ERR_POLICY);
    assert_eq!(client.verdict(OPT_STARTTLS, b"x"), REP_ERR_INVALID);
    assert_eq!(client.verdict(OPT_STRUCTURED_REPLY, b"x"), REP_ERR_INVALID);
    assert_eq!(client.agree("disk").dialect, Dialect::Simple);
}

#[test]
fn unknown_options_are_skipped_with_their_data_however_much_it_is() {
    let mut client = Client::greeted();
    let looked_at = bytes(OPTION_DATA_BYTES_MAX);
    for length in [0, 1, 16, looked_at, looked_at + 1, bytes(OPTION_SKIP_BYTES_MAX)] {
        for option in [0, 4, 12, 13, 0x7fff_ffff, u32::MAX] {
            assert_eq!(client.verdict(option, &vec![0x49; length]), REP_ERR_UNSUP, "{option} with {length}");
        }
    }
    assert_eq!(client.verdict(OPT_LIST, b""), REP_ACK);
}

#[test]
fn too_much_data_is_skipped_and_far_too_much_ends_the_connection() {
    let mut client = Client::greeted();
    for option in [OPT_LIST, OPT_INFO, OPT_GO, OPT_SET_META_CONTEXT] {
        assert_eq!(client.verdict(option, &vec![0; bytes(OPTION_DATA_BYTES_MAX) + 1]), REP_ERR_TOO_BIG);
    }
    let mut header = raw_option(OPT_INFO, b"");
    header[12..].copy_from_slice(&(OPTION_SKIP_BYTES_MAX + 1).to_be_bytes());
    let (progress, out) = client.send(&header);
    assert_eq!((progress, replies(OPT_INFO, &out)[0].0), (Progress::Over, REP_ERR_TOO_BIG));
}

#[test]
fn export_name_agrees_and_pads_for_those_who_want_it() {
    for (flags, padding) in [(0, 124), (1, 124), (2, 0), (3, 0)] {
        let mut client = Client::new();
        assert_eq!(client.send(&u32::to_be_bytes(flags)).0, Progress::Hungry);
        let (progress, out) = client.send(&raw_option(OPT_EXPORT_NAME, b"disk"));
        assert_eq!(progress, Progress::Agreed(terms(false, Dialect::Simple)));
        let expected =
            [&(1_u64 << 20).to_be_bytes()[..], &0x0d6d_u16.to_be_bytes(), &vec![0; padding]].concat();
        assert_eq!(out, expected, "flags {flags}");
    }
}

#[test]
fn export_name_cannot_be_refused_so_it_ends_the_connection() {
    for name in [&b"nobody"[..], b"\xff", b"a\0b"] {
        let (progress, out) = Client::greeted().send(&raw_option(OPT_EXPORT_NAME, name));
        assert_eq!((progress, out), (Progress::Over, Vec::new()));
    }
}

#[test]
fn a_client_without_fixed_newstyle_gets_no_option_replies() {
    for option in [OPT_ABORT, OPT_LIST, OPT_GO, 77] {
        let mut client = Client::new();
        assert_eq!(client.send(&[0; 4]).0, Progress::Hungry);
        assert_eq!(client.send(&raw_option(option, b"")), (Progress::Over, Vec::new()));
    }
}

#[test]
fn a_wrong_magic_ends_the_connection() {
    let raw = raw_option(OPT_LIST, b"");
    for place in 0..8 {
        let mut wrong = raw.clone();
        wrong[place] ^= 1;
        assert_eq!(Client::greeted().send(&wrong), (Progress::Over, Vec::new()));
    }
}

#[test]
fn the_number_of_options_is_bounded() {
    let mut client = Client::greeted();
    for _ in 0..OPTIONS_MAX {
        assert_eq!(client.verdict(OPT_INFO, &go("nobody")), REP_ERR_UNKNOWN);
    }
    let (progress, replies) = client.ask(OPT_INFO, &go("disk"));
    assert_eq!((progress, replies[0].0), (Progress::Over, REP_ERR_POLICY));
}

#[test]
fn contexts_need_structured_replies_first() {
    let mut client = Client::greeted();
    for option in [OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT] {
        assert_eq!(client.verdict(option, &contexts("disk", &["base:allocation"])), REP_ERR_INVALID);
    }
    assert!(client.agree("disk").contexts.is_empty());
}

#[test]
fn contexts_are_listed_by_name_by_wildcard_and_when_nothing_is_asked() {
    let mut client = Client::greeted();
    assert_eq!(client.verdict(OPT_STRUCTURED_REPLY, b""), REP_ACK);
    let mut list = |queries: &[&str]| client.ask(OPT_LIST_META_CONTEXT, &contexts("disk", queries)).1;
    let found = |names: &[&str]| {
        let context = |name: &&str| (REP_META_CONTEXT, [&[0; 4], name.as_bytes()].concat());
        names.iter().map(context).chain([(REP_ACK, Vec::new())]).collect::<Vec<_>>()
    };
    let all = [
        "base:allocation",
        "qemu:allocation-depth",
        "offshoot:shared",
        "qemu:dirty-bitmap:monday",
        "qemu:dirty-bitmap:sunday",
    ];
    assert_eq!(list(&[]), found(&all));
    for queries in [&["base:"][..], &["base:allocation"], &["qemu:x", "base:allocation"]] {
        assert_eq!(list(queries), found(&all[..1]), "{queries:?}");
    }
    assert_eq!(list(&["qemu:"]), found(&[all[1], all[3], all[4]]));
    assert_eq!(list(&["qemu:dirty-bitmap:"]), found(&all[3..]));
    for queries in [&["base:other"][..], &["x-other:thing"], &["qemu:dirty-bitmap:friday"]] {
        assert_eq!(list(queries), found(&[]));
    }
    assert_eq!(list(&["no namespace"])[0].0, REP_ERR_INVALID);
    assert_eq!(client.verdict(OPT_LIST_META_CONTEXT, &contexts("nobody", &[])), REP_ERR_UNKNOWN);
}

#[test]
fn a_selected_context_counts_for_its_export_only() {
    let ready = || {
        let mut client = Client::greeted();
        assert_eq!(client.verdict(OPT_STRUCTURED_REPLY, b""), REP_ACK);
        let selected = client.select("disk", &["base:allocation"]);
        assert_eq!(selected[0], (REP_META_CONTEXT, b"\0\0\0\x01base:allocation".to_vec()));
        client
    };
    assert_eq!(ready().agree("disk").contexts, [Context::Allocation]);
    assert_eq!(ready().agree("").contexts, [Context::Allocation], "the default export is the same export");
    assert!(ready().agree("disk@old").contexts.is_empty());
}

#[test]
fn contexts_are_numbered_as_they_are_told_and_there_may_be_sixteen() {
    let mut client = Client::greeted();
    assert_eq!(client.verdict(OPT_STRUCTURED_REPLY, b""), REP_ACK);
    let replies = client.select("disk", &["qemu:dirty-bitmap:sunday", "qemu:allocation-depth", "x:y"]);
    assert_eq!(replies[0].1, b"\0\0\0\x01qemu:allocation-depth");
    assert_eq!(replies[1].1, b"\0\0\0\x02qemu:dirty-bitmap:sunday");
    assert_eq!(replies.len(), 3);
    assert_eq!(client.agree("disk").contexts, [Context::Depth, Context::Since("sunday".to_owned())]);
    let mut client = Client::greeted();
    assert_eq!(client.verdict(OPT_STRUCTURED_REPLY, b""), REP_ACK);
    let many = vec!["base:allocation"; 257];
    assert_eq!(client.verdict(OPT_SET_META_CONTEXT, &contexts("disk", &many)), REP_ERR_TOO_BIG);
}

#[test]
fn extended_headers_include_structured_replies_and_are_agreed_once() {
    let mut client = Client::greeted();
    assert_eq!(client.verdict(OPT_EXTENDED_HEADERS, b"x"), REP_ERR_INVALID);
    assert_eq!(client.verdict(OPT_STRUCTURED_REPLY, b""), REP_ACK);
    assert_eq!(client.verdict(OPT_STRUCTURED_REPLY, b""), REP_ERR_INVALID);
    assert_eq!(client.verdict(OPT_EXTENDED_HEADERS, b""), REP_ACK);
    assert_eq!(client.verdict(OPT_EXTENDED_HEADERS, b""), REP_ERR_INVALID);
    assert_eq!(client.verdict(OPT_STRUCTURED_REPLY, b""), REP_ERR_EXT_HEADER_REQD);
    assert_eq!(client.select("disk", &["base:allocation"]).len(), 2);
    assert_eq!(client.agree("disk").dialect, Dialect::Extended);
    let mut client = Client::greeted();
    assert_eq!(client.verdict(OPT_EXTENDED_HEADERS, b""), REP_ACK);
    assert_eq!(client.send(&raw_option(OPT_EXPORT_NAME, b"disk")), (Progress::Over, Vec::new()));
}

#[test]
fn a_later_selection_replaces_the_earlier_even_when_it_fails() {
    let malformed = contexts("disk", &["base:allocation"])[..20].to_vec();
    let long = vec![0; bytes(OPTION_DATA_BYTES_MAX) + 1];
    for data in [
        contexts("disk", &[]),
        contexts("disk", &["base:"]),
        contexts("disk", &["qemu:other"]),
        contexts("nobody", &["base:allocation"]),
        malformed,
        long,
    ] {
        let mut client = Client::greeted();
        assert_eq!(client.verdict(OPT_STRUCTURED_REPLY, b""), REP_ACK);
        assert_eq!(client.select("disk", &["base:allocation"]).len(), 2);
        let replies = client.ask(OPT_SET_META_CONTEXT, &data).1;
        assert_eq!(replies.len(), 1, "nothing was selected");
        assert!(client.agree("disk").contexts.is_empty());
    }
}

#[test]
fn a_handshake_arrives_in_any_pieces() {
    let mut whole = vec![0, 0, 0, 3];
    whole.extend(raw_option(OPT_LIST, b""));
    whole.extend(raw_option(99, &[1; 40]));
    whole.extend(raw_option(OPT_STRUCTURED_REPLY, b""));
    whole.extend(raw_option(OPT_SET_META_CONTEXT, &contexts("disk", &["base:allocation"])));
    whole.extend(raw_option(OPT_GO, &go("disk")));
    let at_once = Client::new().send(&whole);
    assert!(matches!(at_once.0, Progress::Agreed(_)));
    for cut in 0..whole.len() {
        let mut client = Client::new();
        let (mut unused, mut all) = (Vec::new(), Vec::new());
        let mut progress = Progress::Hungry;
        for piece in [&whole[..cut], &whole[cut..]] {
            assert_eq!(progress, Progress::Hungry, "cut at {cut}");
            unused.extend_from_slice(piece);
            let mut input = unused.as_slice();
            progress = loop {
                match client.handshake.advance(&mut input, &mut client.exports, &mut all) {
                    Progress::Answered => {}
                    progress => break progress,
                }
            };
            let used = unused.len() - input.len();
            unused.drain(..used);
        }
        assert_eq!(progress, at_once.0, "cut at {cut}");
        assert_eq!(all, at_once.1, "cut at {cut}");
    }
}

#[test]
fn bytes_behind_go_are_left_for_the_session() {
    let mut client = Client::greeted();
    let mut raw = raw_option(OPT_GO, &go("disk"));
    raw.extend(b"request");
    let (mut input, mut out) = (raw.as_slice(), Vec::new());
    let progress = client.handshake.advance(&mut input, &mut client.exports, &mut out);
    assert!(matches!(progress, Progress::Agreed(_)));
    assert_eq!(input, b"request");
}

mod tls;
