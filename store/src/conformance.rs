//! What every engine must do, as one suite that any engine can be run through.

use std::sync::Arc;

use crate::boundary::Engine;

/// How the suite gets at an engine.
pub trait Factory: Send + Sync {
    /// The engine under test.
    type Engine: Engine;

    /// A new, empty engine.
    fn open(&self) -> impl Future<Output = Arc<Self::Engine>> + Send;

    /// What a process finds that starts after this one has died. Nobody else holds the engine.
    fn reopen(&self, engine: Arc<Self::Engine>) -> impl Future<Output = Arc<Self::Engine>> + Send;
}

/// Runs every check; panics at the first that fails.
pub async fn run<F: Factory>(factory: &F) {
    let engine = factory.open().await;
    let _ = factory.reopen(engine).await;
}
