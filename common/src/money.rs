//! Money: whole minor units (cents) and a currency, never floating point, never added unchecked.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::InvalidName;

/// An ISO 4217 currency code in lower case, such as `eur`: three letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// The euro.
    pub const EUR: Self = Self(*b"eur");

    /// The code, such as `eur`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// How many decimal places people write in it. ISO 4217 lists these as the exceptions to two.
    #[must_use]
    pub fn decimal_places(&self) -> usize {
        match self.as_str() {
            "bif" | "clp" | "djf" | "gnf" | "isk" | "jpy" | "kmf" | "krw" | "pyg" | "rwf" | "ugx" | "vnd" | "vuv"
            | "xaf" | "xof" | "xpf" => 0,
            "bhd" | "iqd" | "jod" | "kwd" | "lyd" | "omr" | "tnd" => 3,
            _ => 2,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Currency {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.to_ascii_lowercase().as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_lowercase) => Ok(Self([a, b, c])),
            _ => Err(InvalidName {
                what: "currency",
                value: text.chars().take(80).collect(),
                expected: "three letters such as eur (ISO 4217)",
            }),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().into()
    }
}

/// An amount in minor units (cents for `eur`) of one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units; never negative in this system.
    pub amount: i64,
    /// What they are units of.
    pub currency: Currency,
}

impl Money {
    /// An amount in euro cents.
    #[must_use]
    pub fn eur(cents: i64) -> Self {
        Self { amount: cents, currency: Currency::EUR }
    }

    /// `quantity` times this, or `None` when it does not fit into 64 bits.
    #[must_use]
    pub fn times(self, quantity: u32) -> Option<Self> {
        Some(Self { amount: self.amount.checked_mul(i64::from(quantity))?, ..self })
    }

    /// The sum, or `None` when the currencies differ or it does not fit into 64 bits.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let same_currency = self.currency == other.currency;
        same_currency.then(|| self.amount.checked_add(other.amount))?.map(|amount| Self { amount, ..self })
    }
}

impl fmt::Display for Money {
    /// For people: `12.34 EUR`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.currency.decimal_places();
        let digits = format!("{:0width$}", self.amount.unsigned_abs(), width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let sign = if self.amount < 0 { "-" } else { "" };
        let point = if places == 0 { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction} {}", self.currency.as_str().to_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_reads_as_people_write_it() {
        let yen = Money { amount: 1200, currency: "JPY".parse().expect("a currency") };
        let dinar = Money { amount: 5, currency: "bhd".parse().expect("a currency") };
        assert_eq!(Money::eur(1234).to_string(), "12.34 EUR");
        assert_eq!(Money::eur(5).to_string(), "0.05 EUR");
        assert_eq!(Money::eur(-5).to_string(), "-0.05 EUR");
        assert_eq!(yen.to_string(), "1200 JPY");
        assert_eq!(dinar.to_string(), "0.005 BHD");
    }

    #[test]
    fn sums_that_do_not_fit_are_none() {
        assert_eq!(Money::eur(i64::MAX).times(2), None);
        assert_eq!(Money::eur(i64::MAX).plus(Money::eur(1)), None);
        assert_eq!(Money::eur(1).plus(Money { amount: 1, currency: "usd".parse().expect("a currency") }), None);
        assert_eq!(Money::eur(2).times(3).and_then(|six| six.plus(Money::eur(1))), Some(Money::eur(7)));
    }

    #[test]
    fn a_currency_is_three_letters() {
        for text in ["", "eu", "euro", "e1r", "€"] {
            assert!(text.parse::<Currency>().is_err(), "{text}");
        }
    }
}
