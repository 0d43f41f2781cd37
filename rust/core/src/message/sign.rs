//! Message signatures: lowercase hex of an HMAC-SHA256 over the four JSON parts.
//!
//! Buffers are not signed. Source: `jupyter_client.session.Session.sign`, and the "wire protocol"
//! section of the Jupyter messaging specification.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::message::parts::{MIN_PARTS, Parts};

/// Makes and verifies signatures with one key.
#[derive(Clone, Debug)]
pub struct Key {
    keyed: Hmac<Sha256>,
}

impl Key {
    /// The key of these bytes; `None` where there are none, which means that nothing is signed.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        if key.is_empty() {
            return None;
        }
        Hmac::new_from_slice(key).ok().map(|keyed| Self { keyed })
    }

    /// Whether the message's signature is the one its parts have. Takes the same time wherever a
    /// wrong signature differs.
    #[must_use]
    pub fn verifies<F: AsRef<[u8]>>(&self, parts: &Parts<'_, F>) -> bool {
        let mac = self.mac(parts.all());
        let mut signature = [0; 32];
        base16ct::lower::decode(parts.signature(), &mut signature)
            .is_ok_and(|signature| mac.verify_slice(signature).is_ok())
    }

    /// The signature of header, parent header, metadata and content.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; 64] {
        let mut digits = [0; 64];
        // It fails only where there is no room for the digits, of which a SHA-256 has 64.
        let _ = base16ct::lower::encode(&self.mac(parts).finalize().into_bytes(), &mut digits);
        digits
    }

    fn mac<F: AsRef<[u8]>>(&self, parts: &[F]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        for part in parts.iter().take(MIN_PARTS) {
            mac.update(part.as_ref());
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // hmac.new(b"key", b"{}" * 4, "sha256").hexdigest()
    const SIGNATURE: &[u8] = b"ca767b02c5bc061ed184a9a029e7f93a7f2f7ed4e8fe74120fc1212f0b008fa3";

    fn verified(signature: &[u8], content: &[u8]) -> Option<bool> {
        let frames: [&[u8]; 7] = [b"<IDS|MSG>", signature, b"{}", b"{}", b"{}", content, b"buffer"];
        let parts = Parts::split(&frames).ok()?;
        Some(Key::new(b"key")?.verifies(&parts))
    }

    #[test]
    fn the_signature_covers_the_four_parts_and_no_buffer() {
        assert_eq!(verified(SIGNATURE, b"{}"), Some(true));
        assert_eq!(verified(SIGNATURE, b"{ }"), Some(false));
    }

    #[test]
    fn a_signer_makes_the_signature_that_is_verified() {
        let parts: [&[u8]; 5] = [b"{}", b"{}", b"{}", b"{}", b"buffer"];
        assert_eq!(Key::new(b"key").map(|key| key.sign(&parts).to_vec()), Some(SIGNATURE.to_vec()));
    }

    #[test]
    fn any_other_signature_is_refused() {
        let upper = SIGNATURE.to_ascii_uppercase();
        let short = SIGNATURE.get(..62).unwrap_or_default();
        for signature in [b"".as_slice(), &upper, short, &[b'0'; 64], &[b'z'; 64]] {
            assert_eq!(verified(signature, b"{}"), Some(false));
        }
    }

    #[test]
    fn without_a_key_nothing_is_signed() {
        assert!(Key::new(b"").is_none());
    }
}
