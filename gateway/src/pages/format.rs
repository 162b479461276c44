//! Money, numbers and times as people read them.

use common::{money::Money, time::Timestamp};
use maud::{Markup, html};

/// A price such as `€1,234.50`; currencies without a sign that everybody knows keep their code: `1,200 JPY`.
pub(crate) fn price(money: Money) -> String {
    let text = money.to_string();
    let (number, code) = text.split_once(' ').unwrap_or((&text, ""));
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let number = with_separators(number);
    match code {
        "EUR" => format!("{sign}€{number}"),
        "USD" => format!("{sign}${number}"),
        "GBP" => format!("{sign}£{number}"),
        _ => format!("{sign}{number}\u{a0}{code}"),
    }
}

/// A count such as `12,345`.
pub(crate) fn count(number: u64) -> String {
    with_separators(&number.to_string())
}

/// `1234.50` → `1,234.50`: a comma before every third digit of the whole part.
fn with_separators(number: &str) -> String {
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::with_capacity(number.len() + whole.len() / 3);
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{grouped}.{fraction}"),
        None => grouped,
    }
}

/// The time of day in UTC; `live.js` shows it in the reader's own time zone.
pub(crate) fn clock_time(at: Timestamp) -> Markup {
    html! { time datetime=(at) data-local="time" { (at.strftime("%H:%M:%S UTC")) } }
}

/// Day and time in UTC; `live.js` shows it in the reader's own time zone.
pub(crate) fn day_and_time(at: Timestamp) -> Markup {
    html! { time datetime=(at) data-local="day" { (at.strftime("%-d %B %Y, %H:%M:%S UTC")) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_currency(amount: i64, code: &str) -> String {
        price(Money { amount, currency: code.parse().expect("a currency") })
    }

    #[test]
    fn prices_read_as_people_write_them() {
        assert_eq!(in_currency(1290, "eur"), "€12.90");
        assert_eq!(in_currency(5, "usd"), "$0.05");
        assert_eq!(in_currency(123_456_789, "gbp"), "£1,234,567.89");
        assert_eq!(in_currency(-100_000, "eur"), "-€1,000.00");
        assert_eq!(in_currency(120_000, "jpy"), "120,000\u{a0}JPY");
        assert_eq!(in_currency(5, "bhd"), "0.005\u{a0}BHD");
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1,000");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn a_time_is_told_to_people_and_to_machines() {
        let at: Timestamp = "2026-11-22T17:04:05.678Z".parse().expect("a time");
        assert_eq!(
            day_and_time(at).into_string(),
            r#"<time datetime="2026-11-22T17:04:05.678Z" data-local="day">22 November 2026, 17:04:05 UTC</time>"#
        );
    }
}
