//! What happens beside the requests: metrics are tidied, files are looked at again.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinSet, spawn_blocking};

use super::App;
use crate::auth::Reload;
use crate::history;
use crate::tls::TlsReload;

/// How often metrics are tidied, and the audit trail follows its file.
const INTERVAL: Duration = Duration::from_secs(5);

/// How often the live fleet is written into the log whole, if it has changed.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(60);

/// Begins with all of it; it ends when the set is dropped.
pub(super) fn start(app: &Arc<App>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    repeat(&mut tasks, app, INTERVAL, tidy);
    tasks.spawn({
        let app = Arc::clone(app);
        async move { app.log.keep(&app.telemetry.log).await }
    });
    tasks.spawn({
        let app = Arc::clone(app);
        async move {
            loop {
                tokio::time::sleep(history::INTERVAL).await;
                app.sample().await;
            }
        }
    });
    tasks.spawn({
        let app = Arc::clone(app);
        async move {
            loop {
                tokio::time::sleep(CHECKPOINT_INTERVAL).await;
                app.checkpoint(false).await;
            }
        }
    });
    if let Some((_, interval)) = app.security.tokens() {
        repeat(&mut tasks, app, *interval, reload_tokens);
    }
    if let Some(tls) = &app.security.tls {
        repeat(&mut tasks, app, tls.reload_interval(), reload_certificates);
    }
    tasks
}

/// Calls `work`, which may wait for files, now and then.
fn repeat(tasks: &mut JoinSet<()>, app: &Arc<App>, interval: Duration, work: fn(&App)) {
    let app = Arc::clone(app);
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let app = Arc::clone(&app);
            // A panic, which would be a defect, ends one call and not the others.
            if spawn_blocking(move || work(&app)).await.is_err() {
                tracing::error!("the upkeep panicked");
            }
        }
    });
}

fn tidy(app: &App) {
    app.telemetry.tidy();
    app.tell_shadow();
    if let Some(Err(error)) = app.security.audit.as_ref().map(|sink| sink.tidy()) {
        tracing::error!(%error, "the audit trail cannot be opened again");
    }
}

fn reload_tokens(app: &App) {
    let Some((file, _)) = app.security.tokens() else {
        return;
    };
    match file.reload() {
        Reload::Unchanged => {}
        Reload::Loaded(count) => tracing::info!(count, "new tokens hold"),
        Reload::Kept(error) => tracing::error!(%error, "the old tokens still hold"),
    }
}

fn reload_certificates(app: &App) {
    match app.security.tls.as_ref().map(|tls| tls.reload()) {
        None | Some(TlsReload::Unchanged) => {}
        Some(TlsReload::Loaded) => tracing::info!("new certificates hold"),
        Some(TlsReload::Kept(error)) => tracing::error!(%error, "the old certificates still hold"),
    }
}
