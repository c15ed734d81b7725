//! A collector of OpenTelemetry: takes what is exported over gRPC, and keeps it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::runtime::Runtime;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A span, and whose it is.
#[derive(Debug, Clone)]
pub struct Taken {
    pub service: String,
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    pub parent: Vec<u8>,
    pub name: String,
    pub kind: SpanKind,
    pub attributes: BTreeMap<String, String>,
    /// All of it, as text.
    pub whole: String,
}

#[derive(Default, Clone)]
struct Kept {
    spans: Arc<Mutex<Vec<Taken>>>,
    /// The value of the header `x-tenant` of each export.
    tenants: Arc<Mutex<Vec<String>>>,
}

/// The collector.
pub struct Collector {
    pub address: SocketAddr,
    kept: Kept,
    _runtime: Runtime,
}

impl Collector {
    pub fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let kept = Kept::default();
        let service = TraceServiceServer::new(kept.clone());
        let inside = runtime.enter();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        drop(inside);
        runtime.spawn(Server::builder().serve_with_incoming(service, incoming));
        Self { address, kept, _runtime: runtime }
    }

    pub fn spans(&self) -> Vec<Taken> {
        self.kept.spans.lock().unwrap().clone()
    }

    pub fn tenants(&self) -> Vec<String> {
        self.kept.tenants.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let tenant = request.metadata().get("x-tenant").and_then(|v| v.to_str().ok()).unwrap_or_default();
        self.tenants.lock().unwrap().push(tenant.to_owned());
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap();
            let service = text_of(&resource.attributes)["service.name"].clone();
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans.map(|span| taken(&service, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn taken(service: &str, span: Span) -> Taken {
    let whole = format!("{span:?}");
    Taken {
        service: service.to_owned(),
        kind: span.kind(),
        attributes: text_of(&span.attributes),
        trace: span.trace_id,
        id: span.span_id,
        parent: span.parent_span_id,
        name: span.name,
        whole,
    }
}

fn text_of(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        other => format!("{other:?}"),
    };
    let value = |a: &KeyValue| a.value.as_ref().and_then(|v| v.value.as_ref()).map(text).unwrap_or_default();
    attributes.iter().map(|a| (a.key.clone(), value(a))).collect()
}
