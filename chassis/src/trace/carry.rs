//! A place in a trace, in the metadata of a call: the header `traceparent` of W3C Trace Context.
//!
//! Why it exists: calls with one answer have metadata, and everything else that speaks gRPC knows this header. (A request in a relay
//! and a delivery are frames of long calls and carry theirs in the frame.) It must never take anything that is malformed, and it
//! sends nothing for what is not sampled: then there is nothing to join.

use tonic::metadata::{MetadataMap, MetadataValue};

use super::Context;

const TRACEPARENT: &str = "traceparent";

/// The flag of a trace that is sampled.
const SAMPLED: u8 = 1;

/// Characters of version 00; later versions may have more behind a dash.
const CHARS: usize = 55;

impl Context {
    /// Writes it beside a call.
    pub fn write(self, to: &mut MetadataMap) {
        if !self.is_traced() {
            return;
        }
        let text = format!("00-{:032x}-{:016x}-{SAMPLED:02x}", self.trace(), self.span_wire());
        if let Ok(value) = MetadataValue::try_from(text) {
            to.insert(TRACEPARENT, value);
        }
    }

    /// Reads it beside a call.
    pub fn read(from: &MetadataMap) -> Self {
        from.get(TRACEPARENT).and_then(|v| v.to_str().ok()).and_then(parse).unwrap_or(Self::NONE)
    }
}

fn parse(text: &str) -> Option<Context> {
    let mut parts = text.split('-');
    let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let is_long = text.len() > CHARS;
    let is_known = version == "00" && !is_long || version != "00" && version != "ff";
    if !is_known || [version.len(), trace.len(), span.len(), flags.len()] != [2, 32, 16, 2] {
        return None;
    }
    let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if ![version, trace, span, flags].into_iter().all(is_hex) {
        return None;
    }
    let is_sampled = u8::from_str_radix(flags, 16).ok()? & SAMPLED != 0;
    let context = Context::remote(u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    is_sampled.then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut map = MetadataMap::new();
        Context::NONE.write(&mut map);
        assert!(map.is_empty());
        let sent = Context::remote(7, 9);
        sent.write(&mut map);
        let text = map.get(TRACEPARENT).unwrap().to_str().unwrap();
        assert_eq!(text, "00-00000000000000000000000000000007-0000000000000009-01");
        assert_eq!(Context::read(&map), sent);
    }

    #[test]
    fn what_is_malformed_or_not_sampled_is_no_place_in_a_trace() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(parse(good).unwrap().is_traced());
        assert!(parse(&format!("cc{}-what-comes", &good[2..])).unwrap().is_traced(), "a later version");
        let bad = [
            String::new(),
            good[..54].to_owned(),
            format!("{good}-more"),
            good.to_uppercase(),
            format!("ff{}", &good[2..]),
            good.replace("-01", "-00"),
            good.replace("4bf9", "+bf9"),
        ];
        for text in bad {
            assert_eq!(parse(&text), None, "{text}");
        }
        let nobody = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        assert!(!parse(&nobody).unwrap().is_traced());
    }
}
