//! `[metrics]`: where Prometheus may ask.

use std::net::SocketAddr;

use serde::Deserialize;

use super::server::TcpAddress;

/// The section. Metrics have an address of their own, since the main one may be open to the world.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MetricsConfig {
    listen: Option<TcpAddress>,
}

impl MetricsConfig {
    /// The address of `/metrics`; without one there are none.
    #[must_use]
    pub fn listen(&self) -> Option<SocketAddr> {
        self.listen.map(|listen| listen.0)
    }
}
