//! What is in a seed, judged before anything is made: what cloud-init would not understand is refused here.

use crate::failure::{Code, Failure};
use crate::wire::SeedOrder;

/// More than any user data of a cloud has.
pub(crate) const USER_DATA_BYTES_MAX: usize = 512 << 10;
pub(crate) const NETWORK_CONFIG_BYTES_MAX: usize = 64 << 10;
/// What a kernel takes as the name of its machine (HOST_NAME_MAX), and what lies between two dots of it (RFC 1123).
const HOST_NAME_BYTES_MAX: usize = 64;
const HOST_LABEL_BYTES_MAX: usize = 63;

/// What user data begins with (cloud-init's documentation, "User-data formats"). `#cloud-config-archive` and others begin with a
/// shorter one. Compressed user data is no text and left out.
const FORMS: [&str; 6] =
    ["#cloud-config", "#!", "#cloud-boothook", "#include", "#part-handler", "## template: jinja"];

/// What all seeds of an order have in common.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    user_data: &'a str,
    network_config: Option<&'a str>,
}

impl<'a> Contents<'a> {
    pub(super) fn check(order: &'a SeedOrder, what: &str) -> Result<Self, Failure> {
        let user_data = order.user_data.as_str();
        refuse_length("user data", user_data, USER_DATA_BYTES_MAX, what)?;
        if !FORMS.iter().any(|form| user_data.starts_with(form)) && !is_multipart(user_data) {
            // Without a word of it: a failure is kept in the history.
            let why = "the user data begins with nothing that cloud-init knows";
            let next = "#cloud-config as its first line, or #! for a script";
            return Err(Failure::new(Code::Usage, what, why, next));
        }
        let network_config = order.network_config.as_deref();
        if let Some(text) = network_config {
            refuse_length("a network configuration", text, NETWORK_CONFIG_BYTES_MAX, what)?;
        }
        Ok(Self { user_data, network_config })
    }

    /// The files of one clone's seed.
    pub(super) fn files(&self, meta_data: &'a str) -> Vec<(&'static str, &'a [u8])> {
        let mut files = vec![("meta-data", meta_data.as_bytes()), ("user-data", self.user_data.as_bytes())];
        files.extend(self.network_config.map(|text| ("network-config", text.as_bytes())));
        files
    }
}

/// `instance` is no other machine's, nor that of one that had the same name before. In quotes, since some names, such as `on`
/// and `007`, are no text in YAML.
pub(super) fn meta_data(host_name: &str, instance: u128) -> String {
    format!("instance-id: \"{host_name}-{instance:032x}\"\nlocal-hostname: \"{host_name}\"\n")
}

/// Several in one, by MIME. cloud-init looks for the version, and takes what has none for a text of no form.
fn is_multipart(user_data: &str) -> bool {
    let headers = user_data.lines().take_while(|line| !line.is_empty()).map(str::to_ascii_lowercase);
    let headers: Vec<String> = headers.collect();
    let has = |start: &str| headers.iter().any(|header| header.starts_with(start));
    has("content-type: multipart/") && has("mime-version:")
}

fn refuse_length(noun: &str, text: &str, bytes_max: usize, what: &str) -> Result<(), Failure> {
    let why = match text.len() {
        0 => format!("{noun} of no bytes says nothing"),
        length if length > bytes_max => {
            format!("{noun} of {length} bytes is more than a seed takes: {bytes_max}")
        }
        _ => return Ok(()),
    };
    Err(Failure::new(Code::Usage, what, why, "a file of text that is neither empty nor that long"))
}

/// A seed makes the clone's name that of the machine.
pub(super) fn refuse_host_name(clone: &str, what: &str) -> Result<(), Failure> {
    let is_label = |label: &str| {
        (1..=HOST_LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if clone.len() <= HOST_NAME_BYTES_MAX && clone.split('.').all(is_label) {
        return Ok(());
    }
    let why = format!(
        "{clone} cannot be the name of a machine: letters, digits and '-', {HOST_NAME_BYTES_MAX} bytes at most"
    );
    Err(Failure::new(Code::Usage, what, why, "a name such as desk-01"))
}

#[cfg(test)]
mod tests {
    use super::{Contents, NETWORK_CONFIG_BYTES_MAX, USER_DATA_BYTES_MAX, meta_data, refuse_host_name};
    use crate::wire::SeedOrder;

    fn is_taken(user_data: &str, network_config: Option<&str>) -> bool {
        let network_config = network_config.map(str::to_owned);
        Contents::check(&SeedOrder { user_data: user_data.to_owned(), network_config }, "x").is_ok()
    }

    #[test]
    fn user_data_begins_as_cloud_init_knows_it() {
        for (text, taken) in [
            ("#cloud-config\nhostname: x\n", true),
            ("#cloud-config-archive\n", true),
            ("#!/bin/sh\n", true),
            ("#include-once\nhttp://x/\n", true),
            ("## template: jinja\n#cloud-config\n", true),
            ("Content-Type: multipart/mixed; boundary=\"x\"\r\nMIME-Version: 1.0\r\n\r\n--x", true),
            ("Content-Type: multipart/mixed; boundary=\"x\"\n\nMIME-Version: 1.0\n", false),
            ("", false),
            ("hostname: x\n", false),
            ("# cloud-config\n", false),
            ("\u{feff}#cloud-config\n", false),
        ] {
            assert_eq!(is_taken(text, None), taken, "{text:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_empty_is_refused() {
        let user_data = |length| format!("#!{}", "x".repeat(length - 2));
        assert!(is_taken(&user_data(USER_DATA_BYTES_MAX), None));
        assert!(!is_taken(&user_data(USER_DATA_BYTES_MAX + 1), None));
        assert!(is_taken("#!", Some(&"x".repeat(NETWORK_CONFIG_BYTES_MAX))));
        assert!(!is_taken("#!", Some(&"x".repeat(NETWORK_CONFIG_BYTES_MAX + 1))));
        assert!(!is_taken("#!", Some("")));
    }

    #[test]
    fn a_machine_has_the_name_of_its_clone_where_that_can_be_one() {
        let longest = format!("{}.b", "a".repeat(62));
        for name in ["desk-01", "007", "on", "Desk.lab", &"a".repeat(63), &longest] {
            refuse_host_name(name, "x").expect(name);
        }
        for name in ["a_b", "a+b", "a-", "a..b", "a.-b", "a.", &"a".repeat(64), &format!("{longest}b")] {
            refuse_host_name(name, "x").expect_err(name);
        }
        let expected = "instance-id: \"on-0000000000000000000000000000002a\"\nlocal-hostname: \"on\"\n";
        assert_eq!(meta_data("on", 42), expected);
    }
}
