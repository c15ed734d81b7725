//! A span as the exporter wants it.

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::trace::on::{Context, Open};
use crate::trace::{Kind, Value};

/// The attribute that says why something ended badly.
const ERROR_TYPE: &str = "error.type";

pub(super) fn span(open: Open) -> SpanData {
    let Open { context, parent, kind, name, began, ended, notes, failed, .. } = open;
    let mut attributes: Vec<KeyValue> = notes.into_iter().map(|(key, value)| attribute(key, value)).collect();
    attributes.extend(failed.map(|code| KeyValue::new(ERROR_TYPE, code)));
    SpanData {
        span_context: place(context),
        parent_span_id: SpanId::from_bytes(parent.span_wire().to_be_bytes()),
        parent_span_is_remote: parent.is_remote(),
        span_kind: match kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
            Kind::Internal => SpanKind::Internal,
        },
        name: name.into(),
        start_time: began,
        end_time: ended.max(began),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: failed.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("buslane")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn place(context: Context) -> SpanContext {
    let trace = TraceId::from_bytes(context.trace().to_be_bytes());
    let span = SpanId::from_bytes(context.span_wire().to_be_bytes());
    SpanContext::new(trace, span, TraceFlags::SAMPLED, context.is_remote(), TraceState::NONE)
}

fn attribute(key: &'static str, value: Value) -> KeyValue {
    match value {
        Value::Word(word) => KeyValue::new(key, word),
        Value::Count(count) => KeyValue::new(key, i64::try_from(count).unwrap_or(i64::MAX)),
        Value::Seconds(seconds) => KeyValue::new(key, seconds),
    }
}
