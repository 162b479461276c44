//! Customers that come at a rate of their own, whether those before them have been served or not: whoever was to come while
//! the driver slept comes late, and its time counts from when it was to come.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{task::JoinSet, time::Instant};

/// Those who have come.
pub(super) struct Crowd {
    inside: JoinSet<anyhow::Result<()>>,
    /// How many have come, those that have left again included.
    pub(super) came: u64,
}

/// Let so many come each second, until then. `come` is told when its customer was to come.
pub(super) async fn come_at_a_rate<F, Coming>(rate: u32, until: Instant, come: F) -> anyhow::Result<Crowd>
where
    F: Fn(Instant) -> Coming + Send,
    Coming: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let between = Duration::from_secs(1) / rate.max(1);
    let mut crowd = Crowd { inside: JoinSet::new(), came: 0 };
    let mut due = Instant::now();
    while due < until {
        tokio::time::sleep_until(due).await;
        crowd.inside.spawn(come(due));
        crowd.came += 1;
        due += between;
        while let Some(left) = crowd.inside.try_join_next() {
            left.context("a customer broke off")??;
        }
    }
    Ok(crowd)
}

impl Crowd {
    /// Wait until the last one has left.
    pub(super) async fn has_left(&mut self) -> anyhow::Result<()> {
        while let Some(left) = self.inside.join_next().await {
            left.context("a customer broke off")??;
        }
        Ok(())
    }
}
