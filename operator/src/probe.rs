//! A client of our own that goes through the whole system from outside.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;

/// Makes an enrolment code for a user, or says why there is none.
pub type MakeCode = Arc<dyn Fn(&str) -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Where the probe goes to.
#[derive(Clone)]
pub struct Target {
    /// The gateway.
    pub gate: SocketAddr,
    /// The certificate that it is verified with.
    pub ca_pem: Vec<u8>,
    /// Where enrolment needs a code.
    pub code: Option<MakeCode>,
}
