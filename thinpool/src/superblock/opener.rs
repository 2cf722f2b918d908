//! Who opened the pool: told to the operator who finds it open, trusted by nobody.

/// Bytes of the longest host name kept; Linux allows no longer one.
pub(crate) const HOST_BYTES_MAX: usize = 64;

/// A process on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opener {
    process_id: u32,
    host: String,
}

impl Opener {
    /// A host name beyond [`HOST_BYTES_MAX`] loses its end.
    #[must_use]
    pub(crate) fn new(process_id: u32, host: &str) -> Self {
        let end = host.floor_char_boundary(HOST_BYTES_MAX);
        Self { process_id, host: host[..end].to_owned() }
    }

    #[must_use]
    pub(crate) fn process_id(&self) -> u32 {
        self.process_id
    }

    #[must_use]
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}
