//! What is told before TLS, and what is left of it afterwards.

use super::{Client, Dialect, Progress, bytes, go, raw_option, terms};
use crate::limits::OPTION_DATA_BYTES_MAX;
use crate::proto::{
    OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, OPT_SET_META_CONTEXT, OPT_STARTTLS,
    OPT_STRUCTURED_REPLY, REP_ACK, REP_ERR_INVALID, REP_ERR_TLS_REQD,
};
use crate::tls::Stance;

#[test]
fn where_tls_is_required_nothing_else_is_answered_before_it() {
    let required = || {
        let mut client = Client::where_tls_is(Stance::Required);
        assert_eq!(client.send(&[0, 0, 0, 3]).0, Progress::Hungry);
        client
    };
    let mut client = required();
    for option in [OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY, OPT_SET_META_CONTEXT, 77] {
        assert_eq!(client.verdict(option, &go("disk")), REP_ERR_TLS_REQD);
    }
    assert_eq!(client.verdict(OPT_LIST, &vec![0; bytes(OPTION_DATA_BYTES_MAX) + 1]), REP_ERR_TLS_REQD);
    assert_eq!(client.ask(OPT_STARTTLS, b""), (Progress::StartTls, vec![(REP_ACK, Vec::new())]));
    assert_eq!(client.verdict(OPT_STARTTLS, b""), REP_ERR_INVALID, "once is enough");
    assert_eq!(client.agree("disk"), terms(false, Dialect::Simple));
    assert_eq!(required().send(&raw_option(OPT_EXPORT_NAME, b"disk")), (Progress::Over, Vec::new()));
    assert_eq!(required().ask(OPT_ABORT, b"").0, Progress::Over);
}

#[test]
fn what_was_agreed_before_tls_counts_for_nothing() {
    let mut client = Client::where_tls_is(Stance::Offered);
    assert_eq!(client.send(&[0, 0, 0, 3]).0, Progress::Hungry);
    assert_eq!(client.verdict(OPT_STRUCTURED_REPLY, b""), REP_ACK);
    assert_eq!(client.select("disk", &["base:allocation"]).len(), 2);
    assert_eq!(client.ask(OPT_STARTTLS, b"").0, Progress::StartTls);
    assert_eq!(client.agree("disk"), terms(false, Dialect::Simple));
}
