//! Finds the first byte of a kind, many bytes at a time.

/// Bytes that are looked at one by one: most strings of a message are no longer.
const SHORT: usize = 16;

/// Bytes that are looked at together.
const CHUNK: usize = 32;

/// Where the first byte is for which `is_wanted` holds.
#[inline]
pub(crate) fn find(bytes: &[u8], is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let (short, long) = bytes.split_at(bytes.len().min(SHORT));
    if let Some(at) = short.iter().position(|byte| is_wanted(*byte)) {
        return Some(at);
    }
    let mut before = short.len();
    for chunk in long.chunks(CHUNK) {
        // Without a way out of the loop, the compiler looks at all bytes of a chunk at once.
        if chunk.iter().fold(false, |any, byte| any | is_wanted(*byte)) {
            let at = chunk.iter().position(|byte| is_wanted(*byte))?;
            return Some(before.saturating_add(at));
        }
        before = before.saturating_add(chunk.len());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_is_found_wherever_it_is() {
        // Around the width of a word, which is what matters, where everything takes a thousand times as long.
        for length in 0..if cfg!(miri) { 40 } else { 150 } {
            let mut bytes = vec![b'x'; length];
            assert_eq!(find(&bytes, |byte| byte == b'!'), None);
            for at in (0..length).rev() {
                if let Some(place) = bytes.get_mut(at) {
                    *place = b'!';
                }
                assert_eq!(find(&bytes, |byte| byte == b'!'), Some(at));
            }
        }
    }
}
