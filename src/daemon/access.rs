//! Who may do what: three roles, given to users and groups.

use crate::failure::{Code, Failure};
use crate::users;
use crate::wire::Ask;
use nix::unistd::{Gid, Uid, User, getgrouplist};
use std::ffi::CString;

/// Each may what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    ReadOnly,
    /// Everything within the pool.
    Operator,
    /// And what reaches files beside the pool: imports, sockets at a place or for an owner of choice, the pool's own size.
    Admin,
}

impl Role {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::ReadOnly => "read-only",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// The least that a request takes.
    pub(super) fn required(ask: &Ask) -> Self {
        match ask {
            Ask::Entries | Ask::Status | Ask::Exports => Role::ReadOnly,
            Ask::Import(_) | Ask::ExportImage(_) | Ask::Grow(_) => Role::Admin,
            Ask::Export(order) if order.socket.is_some() || order.owner.is_some() => Role::Admin,
            _ => Role::Operator,
        }
    }
}

/// The other end of a connection, as the kernel has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) pid: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    User(u32),
    Group(u32),
}

/// Who has which role, besides root and the daemon's own user, who are admins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    grants: Vec<(Role, Who)>,
}

impl Access {
    /// `names` are users, and groups with an '@' before them.
    pub(crate) fn grant(&mut self, role: Role, names: &[String]) -> Result<(), Failure> {
        for name in names {
            let unknown = || format!("{name:?}, who is to be {}, is no user and no group here", role.word());
            let who = find(name).and_then(|who| who.ok_or_else(unknown)).map_err(|why| {
                Failure::new(Code::Usage, "the pools are not served", why, "users as name, groups as @name")
            })?;
            self.grants.push((role, who));
        }
        Ok(())
    }

    /// The highest role a caller has.
    pub(super) fn role(&self, peer: &Peer) -> Option<Role> {
        if peer.user == 0 || peer.user == rustix::process::geteuid().as_raw() {
            return Some(Role::Admin);
        }
        let needs_groups = self.grants.iter().any(|(_, who)| matches!(who, Who::Group(_)));
        let groups = if needs_groups { groups(peer) } else { Vec::new() };
        let is_hit = |who: &Who| match who {
            Who::User(user) => *user == peer.user,
            Who::Group(group) => groups.contains(group),
        };
        self.grants.iter().filter(|(_, who)| is_hit(who)).map(|(role, _)| *role).max()
    }
}

fn find(name: &str) -> Result<Option<Who>, String> {
    match name.strip_prefix('@') {
        Some(name) => Ok(users::group(name)?.map(Who::Group)),
        None => Ok(users::user(name)?.map(Who::User)),
    }
}

fn groups(peer: &Peer) -> Vec<u32> {
    let mut groups = vec![peer.group];
    let user = User::from_uid(Uid::from_raw(peer.user)).ok().flatten();
    if let Some(name) = user.and_then(|user| CString::new(user.name).ok()) {
        let more = getgrouplist(&name, Gid::from_raw(peer.group)).unwrap_or_default();
        groups.extend(more.into_iter().map(Gid::as_raw));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::{Access, Peer, Role};
    use crate::wire::{Ask, ExportOrder, GrowOrder};

    fn peer(user: u32, group: u32) -> Peer {
        Peer { user, group, pid: None }
    }

    #[test]
    fn the_highest_role_counts_and_strangers_have_none() {
        let mut access = Access::default();
        access.grant(Role::ReadOnly, &["@54321".to_owned()]).expect("a group");
        access.grant(Role::Operator, &["54322".to_owned()]).expect("a user");
        assert_eq!(access.role(&peer(54_320, 54_321)), Some(Role::ReadOnly));
        assert_eq!(access.role(&peer(54_322, 54_321)), Some(Role::Operator));
        assert_eq!(access.role(&peer(54_320, 54_320)), None);
        assert_eq!(access.role(&peer(0, 0)), Some(Role::Admin));
        access.grant(Role::Admin, &["no such user".to_owned()]).expect_err("nobody");
    }

    #[test]
    fn what_reaches_other_files_takes_an_admin() {
        let export = |socket: Option<&str>, owner: Option<&str>| {
            Ask::Export(ExportOrder {
                name: "v".to_owned(),
                socket: socket.map(std::path::PathBuf::from),
                mode: 0o600,
                owner: owner.map(str::to_owned),
                read_only: false,
                queues: 1,
                iops: None,
                bytes_per_second: None,
            })
        };
        let cases = [
            (Ask::Status, Role::ReadOnly),
            (Ask::Settle, Role::Operator),
            (export(None, None), Role::Operator),
            (export(Some("/etc/x"), None), Role::Admin),
            (export(None, Some("daemon")), Role::Admin),
            (Ask::Grow(GrowOrder { size: 1 }), Role::Admin),
        ];
        for (ask, role) in cases {
            assert_eq!(Role::required(&ask), role, "{ask:?}");
        }
    }
}
