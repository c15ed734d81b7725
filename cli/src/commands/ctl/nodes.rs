//! `ctl nodes`: every process of the system, as the one that is asked sees it.

use buslane_operator::view::{NodeView, State};

use super::status::word;
use super::text::{self, grid, read};
use crate::admin_client::{AdminArgs, AdminClient};
use crate::failure::{Exit, Failure};
use crate::output::{Output, printable};
use crate::time_text::span;

/// Runs it.
pub async fn run(admin: &AdminArgs, output: Output) -> Result<(), Failure> {
    let result = admin.client()?.get("/v1/nodes").await?;
    let nodes: Vec<NodeView> = read(&result)?;
    output.result(&result, || table(&nodes))
}

/// A client of the node of this name; of the one that is asked, where no name is given.
pub async fn client_of(client: AdminClient, name: Option<&str>) -> Result<AdminClient, Failure> {
    let Some(name) = name else { return Ok(client) };
    let nodes: Vec<NodeView> = read(&client.get("/v1/nodes").await?)?;
    let Some(node) = nodes.iter().find(|node| node.node == name) else {
        let known: Vec<&str> = nodes.iter().map(|node| node.node.as_str()).collect();
        return Err(Failure::usage(format!("there is no node {name}; there are {}", known.join(", "))));
    };
    match &node.admin {
        _ if node.here => Ok(client),
        Some(address) => client.at(address),
        None => Err(Failure::new(
            Exit::Unreachable,
            "no_admin_address",
            format!(
                "the admin address of {name} is not known here: name it with --admin, or list it in `peers` of [console]"
            ),
        )),
    }
}

fn table(nodes: &[NodeView]) -> String {
    let header =
        ["node", "role", "state", "posture", "sessions", "order", "heard", "clock", "version", "why"];
    grid(&header, nodes.iter().map(row).collect())
}

fn row(node: &NodeView) -> Vec<String> {
    let dash = || "-".to_owned();
    // What was said too long ago is not known.
    let known = !matches!(node.state, State::Unknown | State::Down);
    let mut state = word(node.state).to_owned();
    if node.draining {
        state += ", drains";
    }
    let why = node.why.as_deref().or(node.cause.as_deref()).unwrap_or_default();
    vec![
        printable(&node.node).into_owned() + if node.here { " *" } else { "" },
        printable(&node.role).into_owned(),
        state,
        node.posture.as_deref().filter(|_| known).map_or_else(dash, text::shout),
        node.sessions.filter(|_| known).map_or_else(dash, |n| n.to_string()),
        node.order.filter(|_| known).map_or_else(dash, |n| n.to_string()),
        node.age_ms.map_or_else(dash, |ms| format!("{} ago", span(ms))),
        node.clock_skew_ms.map_or_else(dash, |ms| format!("{ms:+} ms")),
        node.version.as_deref().map_or_else(dash, |version| printable(version).into_owned()),
        printable(why).into_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_silent_node_said_once_is_not_shown_as_if_it_held() {
        let node = |here, state, posture: &str| NodeView {
            node: "sm1".into(),
            role: "session-manager".into(),
            admin: None,
            here,
            state,
            why: (state == State::Unknown).then(|| "silent".into()),
            age_ms: Some(7_000),
            lacks: std::collections::BTreeMap::new(),
            clock_skew_ms: Some(-12),
            posture: Some(posture.into()),
            cause: None,
            order: None,
            level: None,
            sessions: Some(3),
            draining: false,
            version: Some("0.1.0".into()),
            started_ms: None,
        };
        let table = table(&[node(true, State::Up, "normal"), node(false, State::Unknown, "normal")]);
        let expected = "\
node   role             state    posture  sessions  order  heard    clock   version  why
 sm1 *  session-manager  up       NORMAL   3         -      7 s ago  -12 ms  0.1.0
 sm1    session-manager  UNKNOWN  -        -         -      7 s ago  -12 ms  0.1.0    silent";
        assert_eq!(table.trim_start(), expected);
    }
}
