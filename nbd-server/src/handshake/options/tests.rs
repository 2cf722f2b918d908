use super::{Question, parse};
use crate::proto::{
    OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT, OPT_STARTTLS,
    OPT_STRUCTURED_REPLY, REP_ERR_INVALID, REP_ERR_UNSUP,
};
use proptest::prelude::{any, prop, proptest};

fn go(name: &[u8], wishes: &[u16]) -> Vec<u8> {
    let mut data = u32::try_from(name.len()).expect("short").to_be_bytes().to_vec();
    data.extend(name);
    data.extend(u16::try_from(wishes.len()).expect("few").to_be_bytes());
    wishes.iter().for_each(|wish| data.extend(wish.to_be_bytes()));
    data
}

fn contexts(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = u32::try_from(name.len()).expect("short").to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend(u32::try_from(queries.len()).expect("few").to_be_bytes());
    for query in queries {
        data.extend(u32::try_from(query.len()).expect("short").to_be_bytes());
        data.extend(query.as_bytes());
    }
    data
}

fn reply(option: u32, data: &[u8]) -> u32 {
    parse(option, data).map(|question| format!("{question:?}")).expect_err("refused").reply
}

#[test]
fn go_and_info_name_an_export() {
    assert_eq!(parse(OPT_GO, &go(b"desk", &[3, 0])), Ok(Question::Go { name: "desk" }));
    assert_eq!(parse(OPT_INFO, &go(b"", &[])), Ok(Question::Info { name: "" }));
}

#[test]
fn cve_2022_26495_every_edge_of_a_name_length_is_refused() {
    for length in [0x7fff_ffff, 0x8000_0000, 0xffff_fffb, 0xffff_fffc, 0xffff_ffff, 5, 4097, 65536] {
        for option in [OPT_GO, OPT_INFO, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT] {
            let mut data = go(b"desk", &[]);
            data[..4].copy_from_slice(&u32::to_be_bytes(length));
            assert_eq!(reply(option, &data), REP_ERR_INVALID, "length {length:#x} option {option}");
        }
    }
}

#[test]
fn cve_2022_26496_a_name_may_have_4096_bytes_and_no_more() {
    let longest = "n".repeat(4096);
    assert_eq!(parse(OPT_GO, &go(longest.as_bytes(), &[])), Ok(Question::Go { name: &longest }));
    assert_eq!(reply(OPT_GO, &go("n".repeat(4097).as_bytes(), &[])), REP_ERR_INVALID);
    assert_eq!(parse(OPT_EXPORT_NAME, longest.as_bytes()), Ok(Question::ExportName { name: &longest }));
    assert_eq!(reply(OPT_EXPORT_NAME, "n".repeat(4097).as_bytes()), REP_ERR_INVALID);
}

#[test]
fn names_are_utf8_without_zero_bytes() {
    assert_eq!(reply(OPT_GO, &go(b"\xff\xfe", &[])), REP_ERR_INVALID);
    assert_eq!(reply(OPT_GO, &go(b"a\0b", &[])), REP_ERR_INVALID);
}

#[test]
fn options_with_data_they_do_not_take_are_refused() {
    assert_eq!(reply(OPT_LIST, b"x"), REP_ERR_INVALID);
    assert_eq!(reply(OPT_STRUCTURED_REPLY, b"x"), REP_ERR_INVALID);
    assert_eq!(reply(OPT_STARTTLS, b"x"), REP_ERR_INVALID);
    assert_eq!(reply(0, b""), REP_ERR_UNSUP);
    assert_eq!(reply(12, b"a later extension"), REP_ERR_UNSUP);
}

#[test]
fn go_is_refused_when_cut_anywhere_and_when_longer() {
    let whole = go(b"desk", &[0, 3]);
    for end in 0..whole.len() {
        assert_eq!(reply(OPT_GO, &whole[..end]), REP_ERR_INVALID, "cut at {end}");
    }
    let mut longer = whole;
    longer.push(0);
    assert_eq!(reply(OPT_GO, &longer), REP_ERR_INVALID);
}

#[test]
fn queries_are_read_in_their_order_and_have_a_namespace() {
    let queries = ["qemu:dirty-bitmap:x", "base:allocation", "base:"];
    let expected = Question::SetContexts { name: "d", queries: queries.to_vec() };
    assert_eq!(parse(OPT_SET_META_CONTEXT, &contexts("d", &queries)), Ok(expected));
    assert_eq!(reply(OPT_SET_META_CONTEXT, &contexts("d", &["nocolon"])), REP_ERR_INVALID);
}

#[test]
fn contexts_are_refused_when_cut_anywhere_and_when_the_count_lies() {
    let whole = contexts("d", &["base:allocation", "base:"]);
    for end in 0..whole.len() {
        assert_eq!(reply(OPT_SET_META_CONTEXT, &whole[..end]), REP_ERR_INVALID, "cut at {end}");
    }
    let mut lies = contexts("d", &[]);
    let count = lies.len() - 4;
    lies[count..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(reply(OPT_LIST_META_CONTEXT, &lies), REP_ERR_INVALID);
}

proptest! {
    #[test]
    fn any_data_is_a_question_or_a_refusal(option in 0u32..14, data in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(refused) = parse(option, &data) {
            assert!(refused.reply >= 1 << 31);
        }
    }
}
