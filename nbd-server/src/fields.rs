//! Big-endian fields out of untrusted bytes. Never panics, never reads past the end.

/// What is left of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

/// The front of a text that fits in `bytes_max`, cut between characters.
pub(crate) fn clip(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::{Fields, clip};

    #[test]
    fn fields_end_where_the_bytes_end() {
        let mut fields = Fields::new(&[0, 1, 0, 0, 0, 2, 9]);
        assert_eq!(fields.u16(), Some(1));
        assert_eq!(fields.u32(), Some(2));
        assert_eq!(fields.u16(), None);
        assert_eq!(fields.take(2), None);
        assert_eq!(fields.take(1), Some(&[9][..]));
        assert!(fields.is_empty());
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(clip("aää", 4), "aä");
        assert_eq!(clip("abc", 10), "abc");
    }
}
