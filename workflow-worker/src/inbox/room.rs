//! How many turns may run or wait at the same time.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

/// Turns at first. Whoever starts after everybody was down meets all that has gathered, and a thousand turns at once come to
/// their first end together and late: each reads its history, and all share the same commits.
const FIRST_TURNS: usize = 64;

/// Twice as many after this: about what the first ones take to their end (`bench recovery`).
const DOUBLED_AFTER: Duration = Duration::from_millis(100);

/// Room for a few turns, and soon for `most`.
pub(super) fn widening(most: usize) -> Arc<Semaphore> {
    // What a semaphore can count is more than anybody asks for, except by mistake.
    let most = most.min(Semaphore::MAX_PERMITS);
    let first = FIRST_TURNS.min(most);
    let room = Arc::new(Semaphore::new(first));
    tokio::spawn(widen(Arc::clone(&room), first, most));
    room
}

async fn widen(room: Arc<Semaphore>, mut open: usize, most: usize) {
    while open < most {
        tokio::time::sleep(DOUBLED_AFTER).await;
        let more = open.min(most - open);
        room.add_permits(more);
        open += more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_is_room_for_a_few_at_first_and_for_all_soon_after() {
        let room = widening(300);
        // Half way between one time and the next.
        tokio::time::sleep(DOUBLED_AFTER / 2).await;
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(room.available_permits());
            tokio::time::sleep(DOUBLED_AFTER).await;
        }
        assert_eq!(seen, [64, 128, 256, 300, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_never_more_room_than_was_asked_for() {
        let room = widening(3);
        tokio::time::sleep(DOUBLED_AFTER * 10).await;
        assert_eq!(room.available_permits(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_semaphore_can_count_is_cut() {
        let room = widening(usize::MAX);
        tokio::time::sleep(DOUBLED_AFTER * u32::BITS * 2).await;
        assert_eq!(room.available_permits(), Semaphore::MAX_PERMITS);
    }
}
