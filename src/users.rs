//! Users and groups of this machine, by their names or their numbers.

use nix::unistd::{Group, User};
use unix_socket::Owner;

/// The error says why nobody could be asked.
pub(crate) fn user(text: &str) -> Result<Option<u32>, String> {
    let found =
        User::from_name(text).map_err(|errno| format!("the user {text} cannot be looked up: {errno}"))?;
    Ok(found.map(|user| user.uid.as_raw()).or_else(|| number(text)))
}

/// The error says why nobody could be asked.
pub(crate) fn group(text: &str) -> Result<Option<u32>, String> {
    let found =
        Group::from_name(text).map_err(|errno| format!("the group {text} cannot be looked up: {errno}"))?;
    Ok(found.map(|group| group.gid.as_raw()).or_else(|| number(text)))
}

/// The largest one means "as it is" to the kernel.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

/// `USER`, `USER:GROUP` or `:GROUP`, by names or numbers. The error says what there is not.
pub(crate) fn owner(text: &str) -> Result<Owner, String> {
    let (user_text, group_text) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if group_text == Some("") || text.is_empty() {
        return Err("an owner is USER, USER:GROUP or :GROUP".to_owned());
    }
    let missing = |what: &str, text: &str| format!("there is no {what} {text}");
    let user = match user_text {
        "" => None,
        text => Some(user(text)?.ok_or_else(|| missing("user", text))?),
    };
    let group = match group_text {
        None => None,
        Some(text) => Some(group(text)?.ok_or_else(|| missing("group", text))?),
    };
    Ok(Owner { user, group })
}

#[cfg(test)]
mod tests {
    use super::owner;
    use unix_socket::Owner;

    #[test]
    fn an_owner_is_a_user_a_group_or_both_by_name_or_number() {
        let both = |user, group| Ok(Owner { user, group });
        assert_eq!(owner("root"), both(Some(0), None));
        assert_eq!(owner("root:root"), both(Some(0), Some(0)));
        assert_eq!(owner("54321:54322"), both(Some(54_321), Some(54_322)));
        assert_eq!(owner(":54322"), both(None, Some(54_322)));
        assert_eq!(owner("no-such-user:0"), Err("there is no user no-such-user".to_owned()));
        assert_eq!(owner("0:no-such-group"), Err("there is no group no-such-group".to_owned()));
        for wrong in ["", ":", "0:", "4294967295", "-1", "0:0:0"] {
            assert!(owner(wrong).is_err(), "{wrong}");
        }
    }
}
