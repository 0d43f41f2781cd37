//! Writing into a slice of known length, without an index that could be out of bounds.

use std::mem;

use super::WireError;

/// The part of an output slice that is still to be written.
pub(super) struct Fill<'a> {
    rest: &'a mut [u8],
}

impl<'a> Fill<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> Self {
        Self { rest: out }
    }

    /// Writes `bytes` at the front and moves on.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let rest = mem::take(&mut self.rest);
        let limit = rest.len() as u64;
        let Some((head, tail)) = rest.split_at_mut_checked(bytes.len()) else {
            return Err(WireError::TooLong { length: bytes.len() as u64, limit });
        };
        head.copy_from_slice(bytes);
        self.rest = tail;
        Ok(())
    }

    /// What was not written, for the next format to fill.
    pub(super) fn into_rest(self) -> &'a mut [u8] {
        self.rest
    }
}

/// Writes `parts` to the front of `out`; gives back the rest of it.
pub(super) fn put_all<'o, F: AsRef<[u8]>>(
    parts: &[F],
    out: &'o mut [u8],
) -> Result<&'o mut [u8], WireError> {
    let mut fill = Fill::new(out);
    for part in parts {
        fill.put(part.as_ref())?;
    }
    Ok(fill.into_rest())
}
