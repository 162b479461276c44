//! The lines of a reservation, in the one form in which they are compared and recorded.

use std::{collections::BTreeMap, fmt};

use common::contracts::inventory::StockLine;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{MAX_LINES, refusal::Refusal};

/// The same wish in its one spelling: sorted by SKU, each SKU once (lines of one SKU are added up).
pub(super) fn normalised(lines: &[StockLine]) -> Result<Vec<StockLine>, Refusal> {
    if lines.is_empty() || lines.len() > MAX_LINES {
        return Err(Refusal::InvalidLines);
    }
    let mut quantities = BTreeMap::new();
    for line in lines {
        if line.quantity == 0 {
            return Err(Refusal::InvalidLines);
        }
        let sum: &mut u32 = quantities.entry(&line.sku).or_default();
        *sum = sum.checked_add(line.quantity).ok_or(Refusal::InvalidLines)?;
    }
    Ok(quantities.into_iter().map(|(sku, quantity)| StockLine { sku: sku.clone(), quantity }).collect())
}

/// What a finished reservation keeps of its lines: enough to tell the same wish from another one, in 16 bytes.
///
/// Half a SHA-256: two carts of one workflow id that share it cannot be found by chance.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LinesDigest([u8; 16]);

impl LinesDigest {
    /// The digest of normalised lines.
    pub(super) fn of(lines: &[StockLine]) -> Self {
        let mut hasher = Sha256::new();
        for line in lines {
            // A SKU has no space and no line break, so different lines never give the same text.
            hasher.update(format!("{} {}\n", line.sku, line.quantity));
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize()[..16]);
        Self(digest)
    }
}

impl fmt::Debug for LinesDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl TryFrom<String> for LinesDigest {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut digest = [0; 16];
        hex::decode_to_slice(text, &mut digest)?;
        Ok(Self(digest))
    }
}

impl From<LinesDigest> for String {
    fn from(digest: LinesDigest) -> Self {
        hex::encode(digest.0)
    }
}
