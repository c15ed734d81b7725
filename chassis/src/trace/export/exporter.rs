//! The exporter of the settings. What the file does not say, the environment does, by the names of OpenTelemetry.

use std::env;
use std::fs;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::trace::{Config, TraceError, Whose, headers};

/// The variable of OpenTelemetry that names a service.
const NAME_VARIABLE: &str = "OTEL_SERVICE_NAME";

/// Variables with the address, the more special one first.
const ENDPOINT_VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Variables with the milliseconds of an export, the more special one first.
const TIMEOUT_VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];

/// How long one export may take where nobody says anything.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the exporter is made of, read before the thread is started.
pub(super) struct Plan {
    endpoint: Option<String>,
    timeout: Duration,
    headers: MetadataMap,
    tls: Option<ClientTlsConfig>,
    resource: Resource,
}

impl Plan {
    pub(super) fn make(config: &Config, whose: Whose<'_>) -> Result<Self, TraceError> {
        let headers = config.headers.as_deref().map(headers::read).transpose()?.unwrap_or_default();
        let endpoint = config.endpoint.clone().or_else(|| first(&ENDPOINT_VARIABLES).map(|(_, value)| value));
        let is_secure = endpoint.as_deref().is_some_and(|e| e.starts_with("https://"));
        let tls = if is_secure { Some(tls(config)?) } else { None };
        let timeout = timeout(config.export_timeout_ms, first(&TIMEOUT_VARIABLES))?;
        Ok(Self { endpoint, timeout, headers, tls, resource: resource(config, whose) })
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The exporter; call it where its connection is to live. It connects when it has something to send.
    pub(super) fn exporter(&self) -> Result<SpanExporter, TraceError> {
        let mut builder = SpanExporter::builder()
            .with_tonic()
            .with_timeout(self.timeout)
            .with_metadata(self.headers.clone());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(tls) = &self.tls {
            builder = builder.with_tls_config(tls.clone());
        }
        let mut exporter = builder.build().map_err(|e| TraceError::Exporter(e.to_string()))?;
        exporter.set_resource(&self.resource);
        Ok(exporter)
    }
}

fn tls(config: &Config) -> Result<ClientTlsConfig, TraceError> {
    let Some(path) = &config.ca else { return Ok(ClientTlsConfig::new().with_webpki_roots()) };
    let pem = fs::read(path).map_err(|e| TraceError::Exporter(format!("ca: {}: {e}", path.display())))?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

/// What the file says, else what a variable says.
fn timeout(
    of_file_ms: Option<u32>,
    variable: Option<(&'static str, String)>,
) -> Result<Duration, TraceError> {
    if let Some(ms) = of_file_ms {
        return Ok(Duration::from_millis(ms.into()));
    }
    let Some((name, value)) = variable else { return Ok(TIMEOUT) };
    match value.trim().parse::<u64>() {
        Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err(TraceError::BadTimeout { name, value }),
    }
}

/// Who sends. What OTEL_RESOURCE_ATTRIBUTES says is added.
fn resource(config: &Config, whose: Whose<'_>) -> Resource {
    let name = config.service_name.clone().or_else(|| first(&[NAME_VARIABLE]).map(|(_, value)| value));
    Resource::builder()
        .with_service_name(name.unwrap_or_else(|| format!("buslane-{}", whose.role)))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", whose.node.to_owned()))
        .build()
}

/// The first variable that is set, and its value.
fn first(variables: &[&'static str]) -> Option<(&'static str, String)> {
    variables.iter().find_map(|&name| {
        let value = env::var(name).ok().filter(|value| !value.is_empty())?;
        Some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_of_the_environment_is_a_number_or_named_and_the_file_wins() {
        let said = |value: &str| Some(("OTEL_EXPORTER_OTLP_TIMEOUT", value.to_owned()));
        assert_eq!(timeout(None, None).unwrap(), TIMEOUT);
        assert_eq!(timeout(None, said(" 250 ")).unwrap(), Duration::from_millis(250));
        assert_eq!(timeout(Some(100), said("soon")).unwrap(), Duration::from_millis(100));
        for wrong in ["soon", "0", "-1", "2.5"] {
            let error = timeout(None, said(wrong)).unwrap_err().to_string();
            assert!(error.contains("OTEL_EXPORTER_OTLP_TIMEOUT") && error.contains(wrong), "{error}");
        }
    }
}
