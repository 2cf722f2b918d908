//! Metadata contexts: what block status can tell of an export ("Metadata querying" of the specification).

use thinpool::ExtentKind;

/// Contexts one connection may select; each is a part of every answer.
pub(crate) const CONTEXTS_MAX: usize = 16;

const STATE_HOLE: u32 = 1 << 0;
const STATE_ZERO: u32 = 1 << 1;
const SHARED: u32 = 1 << 0;
const CHANGED: u32 = 1 << 0;

const BITMAP: &str = "qemu:dirty-bitmap:";

/// One thing there is to tell of each block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Context {
    /// `base:allocation`: whether it is a hole that reads as zeros.
    Allocation,
    /// `qemu:allocation-depth`: how far up the lineage its owner is; 0 for a hole, 1 for the export itself.
    Depth,
    /// `offshoot:shared`: whether another volume, snapshot or version has the same block.
    Shared,
    /// `qemu:dirty-bitmap:NAME`: whether it has changed since this snapshot of the volume.
    Since(String),
}

impl Context {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Allocation => "base:allocation".to_owned(),
            Self::Depth => "qemu:allocation-depth".to_owned(),
            Self::Shared => "offshoot:shared".to_owned(),
            Self::Since(point) => format!("{BITMAP}{point}"),
        }
    }

    /// All there are for an export with these snapshots.
    pub(crate) fn all(points: &[String]) -> Vec<Self> {
        let since = points.iter().cloned().map(Self::Since);
        [Self::Allocation, Self::Depth, Self::Shared].into_iter().chain(since).collect()
    }

    /// The flags of a run, where they come from its extent.
    pub(crate) fn flags(&self, kind: ExtentKind) -> u32 {
        match (self, kind) {
            (Self::Allocation, ExtentKind::Hole) => STATE_HOLE | STATE_ZERO,
            (Self::Depth, ExtentKind::Own) => 1,
            (Self::Depth, ExtentKind::Shared { depth }) => depth,
            (Self::Shared, ExtentKind::Shared { .. }) => SHARED,
            _ => 0,
        }
    }
}

/// The flags of a run of [`Context::Since`].
pub(crate) fn changed(changed: bool) -> u32 {
    if changed { CHANGED } else { 0 }
}

/// Whether a query finds a context. A namespace, or the namespace of all bitmaps, finds what is in it where contexts are
/// listed, and selects nothing.
pub(crate) fn finds(query: &str, name: &str, listing: bool) -> bool {
    let is_wildcard = matches!(query, "base:" | "qemu:" | "offshoot:" | BITMAP);
    query == name || (listing && is_wildcard && name.starts_with(query))
}

#[cfg(test)]
mod tests {
    use super::{Context, finds};
    use thinpool::ExtentKind;

    #[test]
    fn a_wildcard_finds_its_namespace_in_a_list_and_selects_nothing() {
        let names: Vec<String> = Context::all(&["monday".to_owned()]).iter().map(Context::name).collect();
        let found = |query, listing| {
            names.iter().filter(|name| finds(query, name, listing)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(found("base:", true), ["base:allocation"]);
        assert_eq!(found("qemu:", true), ["qemu:allocation-depth", "qemu:dirty-bitmap:monday"]);
        assert_eq!(found("qemu:dirty-bitmap:", true), ["qemu:dirty-bitmap:monday"]);
        assert_eq!(found("qemu:dirty-bitmap:monday", false), ["qemu:dirty-bitmap:monday"]);
        assert_eq!(found("qemu:allocation", true), [""; 0]);
        for wildcard in ["base:", "qemu:", "offshoot:", "qemu:dirty-bitmap:"] {
            assert_eq!(found(wildcard, false), [""; 0]);
        }
    }

    #[test]
    fn a_run_has_the_flags_of_its_context() {
        let kinds = [ExtentKind::Hole, ExtentKind::Own, ExtentKind::Shared { depth: 7 }];
        let flags = |context: Context| kinds.map(|kind| context.flags(kind));
        assert_eq!(flags(Context::Allocation), [3, 0, 0]);
        assert_eq!(flags(Context::Depth), [0, 1, 7]);
        assert_eq!(flags(Context::Shared), [0, 0, 1]);
    }
}
