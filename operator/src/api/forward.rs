//! `?node=NAME`: the same question, answered by another process.
//!
//! Why it exists: an operator opens one page and looks at all nodes. A question about another node is passed on to it, with the token of
//! the peers, and its answer is given as it is. Only questions: what changes a node is asked of the node itself, so that the audit
//! there names who asked.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use buslane_chassis::admin::error;

use super::answer::{absent, result};
use crate::peers::call::CallError;
use crate::seat::Seat;

/// Routes whose answer is of one node. The others answer for all of them, or as this process sees them, and take no `node`.
const OF_A_NODE: [&str; 6] =
    ["/v1/traffic", "/v1/live", "/v1/lanes", "/v1/posture", "/v1/drain", "/v1/audit"];

/// Passes on what is asked of another node.
pub async fn forward(State(seat): State<Arc<Seat>>, request: Request, next: Next) -> Response {
    let uri = request.uri();
    let is_question = *request.method() == Method::GET && OF_A_NODE.contains(&uri.path());
    let Some((node, rest)) = uri.query().filter(|_| is_question).and_then(split) else {
        return next.run(request).await;
    };
    if node == seat.node {
        return next.run(request).await;
    }
    let Some(addr) = seat.peers.named(&node) else { return unasked(&seat, &node) };
    let path = format!("{}?{rest}", uri.path());
    let answered = if uri.path() == "/v1/live" {
        super::live::of_another(&seat, addr, &path).await
    } else {
        seat.peers.ask(addr, Method::GET, &path, None).await.map(result)
    };
    answered.unwrap_or_else(|why| silent(&node, &why))
}

/// A node that cannot be asked, and why.
fn unasked(seat: &Seat, node: &str) -> Response {
    if seat.nodes().iter().any(|known| known.node == node) {
        return error(
            StatusCode::BAD_GATEWAY,
            "node_not_asked",
            "this node is known and cannot be asked from here: put its admin address under `peers` in [console]",
        );
    }
    absent("no_such_node", "no process of that name is known here; `GET /v1/nodes` lists them")
}

fn silent(node: &str, why: &CallError) -> Response {
    match why {
        CallError::Refused { status, code, message } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
            // That our own token is not good there is not the asker's fault.
            let status = if status == StatusCode::UNAUTHORIZED { StatusCode::BAD_GATEWAY } else { status };
            error(status, code, message)
        }
        why => error(StatusCode::BAD_GATEWAY, "node_silent", &format!("{node}: {why}")),
    }
}

/// The name of the node in a query, and the query without it.
fn split(query: &str) -> Option<(String, String)> {
    let mut node = None;
    let mut rest = Vec::new();
    for part in query.split('&') {
        match part.strip_prefix("node=") {
            Some(name) => node = Some(decode(name)?),
            None => rest.push(part),
        }
    }
    Some((node?, rest.join("&")))
}

/// A value of a query as it was meant. None: it is none.
fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, more) = rest.split_at_checked(2)?;
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).ok()?;
                bytes.extend(byte);
                rest = more;
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_taken_out_of_the_query() {
        let cases = [
            ("node=sm2", Some(("sm2", ""))),
            ("span=3h&node=sm2", Some(("sm2", "span=3h"))),
            ("node=sm%202&span=10m", Some(("sm 2", "span=10m"))),
            ("node=a%26b%2Fc", Some(("a&b/c", ""))),
            ("span=3h", None),
            ("node=%f", None),
            ("node=%ff", None),
            ("node=%zz", None),
        ];
        for (query, expected) in cases {
            let expected = expected.map(|(node, rest)| (node.to_owned(), rest.to_owned()));
            assert_eq!(split(query), expected, "{query}");
        }
    }
}
