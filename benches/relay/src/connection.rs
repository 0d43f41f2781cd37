//! A kernel's connection file, and signatures.
//!
//! Source: "Connection files" and "the wire protocol" in the Jupyter messaging specification.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

/// What a connection file says.
#[derive(Clone, Debug, Deserialize)]
pub struct Connection {
    transport: String,
    ip: String,
    key: String,
    /// Port of the shell channel.
    pub shell_port: u16,
    /// Port of the control channel.
    pub control_port: u16,
    /// Port of the stdin channel.
    pub stdin_port: u16,
    /// Port of the iopub channel.
    pub iopub_port: u16,
    /// Port of the heartbeat.
    pub hb_port: u16,
}

impl Connection {
    /// Reads a connection file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }

    /// libzmq's name for a port.
    #[must_use]
    pub fn endpoint(&self, port: u16) -> String {
        // Sockets in files are named with a dash.
        let separator = if self.transport == "ipc" { '-' } else { ':' };
        format!("{}://{}{separator}{port}", self.transport, self.ip)
    }

    /// Signs with the file's key.
    pub fn signer(&self) -> Result<Signer> {
        Ok(Signer { keyed: Hmac::new_from_slice(self.key.as_bytes())? })
    }
}

/// HMAC-SHA256 over the four JSON parts.
#[derive(Clone)]
pub struct Signer {
    keyed: Hmac<Sha256>,
}

impl Signer {
    /// Lowercase hex digits of the signature.
    #[must_use]
    pub fn sign<P: AsRef<[u8]>>(&self, parts: &[P]) -> String {
        let mut mac = self.keyed.clone();
        for part in parts.iter().take(4) {
            mac.update(part.as_ref());
        }
        hex(&mac.finalize().into_bytes())
    }
}

/// Lowercase hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
