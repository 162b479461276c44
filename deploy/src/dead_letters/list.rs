//! The letters as a table for eyes.

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL};
use common::time::Timestamp;

use super::letter::Letter;

pub(super) fn table(letters: &[Letter], now: Timestamp) -> String {
    if letters.is_empty() {
        return "nothing is parked".into();
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["Letter", "Age", "Came from", "Deliveries", "Reason"]);
    for letter in letters {
        let deliveries = letter.deliveries.map(|count| count.to_string()).unwrap_or_default();
        let mut reason = letter.reason.clone();
        if letter.is_cut {
            reason += "\n(cut: cannot be driven again)";
        }
        if let Some(settled) = &letter.settled {
            reason = format!("{reason}\n→ {}", settled.in_words());
        }
        table.add_row([letter.sequence.to_string(), age(letter.parked_at, now), came_from(letter), deliveries, reason]);
    }
    format!("{table}\nlook at one: `dead-letters show <letter>`; send it again: `dead-letters redrive <letter>`")
}

/// Where it came from; the workflow beside it where the subject does not name it.
fn came_from(letter: &Letter) -> String {
    let stream = letter.original_stream.as_deref().unwrap_or(&letter.area);
    let is_in_subject =
        |workflow: &&str| workflow.rsplit(' ').next().is_some_and(|id| letter.original_subject.ends_with(id));
    let workflow = letter.workflow.as_deref().filter(|workflow| !is_in_subject(workflow));
    let about = workflow.map(|workflow| format!("\nabout {workflow}")).unwrap_or_default();
    format!("{stream}\n{}{about}", letter.original_subject)
}

/// The largest unit that fits: `45s`, `12m`, `3h`, `9d`.
pub(super) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_the_largest_unit_that_fits() {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        let ago = |seconds: i64| age(Timestamp::from_second(1_000_000 - seconds).expect("a time"), now);
        assert_eq!([0, 119, 120, 7_200, 172_800].map(ago), ["0s", "119s", "2m", "2h", "2d"]);
        // A server's clock that runs ahead is no reason to fail.
        assert_eq!(ago(-5), "0s");
    }
}
