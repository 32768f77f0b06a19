//! What systemd is told of the server (`NOTIFY_SOCKET`): that it serves, that it stops, how it is,
//! and that it is alive.
//!
//! Without such a socket nothing is sent. A message that cannot be sent is logged and dropped: what
//! serves clients does not wait for it.

use std::time::Duration;

use sd_notify::NotifyState;

/// Says that the server serves.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the server ends when requests under way are done.
pub fn stopping() {
    let status = "Stopping: requests under way may finish";
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// What is wrong with the database.
#[derive(Debug)]
pub struct Trouble {
    /// Whether it refuses. Otherwise it says nothing.
    pub has_answered: bool,
    /// The cause.
    pub cause: String,
}

/// Says that the server is alive whenever `ping` ends well or with a refusal.
///
/// A database that refuses is away, which the status says. A restart would not bring it back. A
/// database that is silent for as long as `WatchdogSec=`, or a runtime that runs no tasks, is a
/// reason for one: then systemd hears nothing. Without `WatchdogSec=` this returns at once.
pub async fn watch<F>(ping: impl Fn() -> F, status: String)
where
    F: Future<Output = Result<(), Trouble>>,
{
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    let mut ticks = tokio::time::interval(every(limit));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut shown = status.clone();
    loop {
        ticks.tick().await;
        let (is_alive, now) = match ping().await {
            Ok(()) => (true, status.clone()),
            Err(trouble) => {
                let text = format!("{status}, but without its database: {}", trouble.cause);
                (trouble.has_answered, one_line(&text))
            }
        };
        if now != shown {
            notify(&[NotifyState::Status(&now)]);
            shown = now;
        }
        if is_alive {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

/// How often the database is asked: four times within the limit, since an answer may take a while.
fn every(limit: Duration) -> Duration {
    (limit / 4).max(Duration::from_millis(50))
}

/// A message ends at its first line break.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told how the server is");
    }
}
