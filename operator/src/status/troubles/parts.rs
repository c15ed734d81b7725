//! Components that fail: one trouble for the store, one for the backend, one for all gateways together, and so on.

use super::{Standing, Trouble, listed, sufferers};
use crate::status::alerts::{self, Rule};
use crate::status::facts::Facts;
use crate::status::graph::{Blame, Judged};
use crate::status::judge;
use crate::view::{Severity, State};

/// Share of memory or descriptors from which on people are called: the hard value of overload control.
const STOCK_SHARE_CRITICAL: f64 = 0.92;

/// A certificate that ends within this calls people at once.
const CERTIFICATE_URGENT_MS: u64 = 2 * judge::DAY_MS;

pub fn troubles(facts: &Facts, components: &[Judged], blame: &Blame) -> Vec<Trouble> {
    let find = |id: &str| components.iter().find(|c| c.id == id);
    let single = [
        (find("store"), &alerts::STORE_DOWN, Severity::Critical, "The store takes no writes"),
        (find("backend"), &alerts::BACKEND_DOWN, Severity::Critical, "The backend does not answer"),
        (
            find("probe"),
            &alerts::PROBE_FAILING,
            Severity::High,
            "A client from outside does not get through, and nothing else is known to be wrong",
        ),
    ];
    let mut all: Vec<Trouble> = single
        .into_iter()
        .filter_map(|(component, rule, severity, title)| one(component?, rule, severity, title, blame))
        .collect();
    all.extend(many(components, "gateway", "gateways", &alerts::GATEWAYS_DOWN, blame));
    all.extend(many(components, "session-manager", "session managers", &alerts::MANAGERS_DOWN, blame));
    all.extend(
        many(components, "peer", "peers", &alerts::PEERS_SILENT, blame)
            .map(|trouble| Trouble { severity: Severity::Medium, ..trouble }),
    );
    all.extend(certificate(facts, blame));
    all.extend(find("audit").and_then(|audit| {
        warning(audit, &alerts::AUDIT, Severity::Medium, "The audit is not what was written")
    }));
    all.extend(find("clock").and_then(|clock| {
        warning(clock, &alerts::CLOCK, Severity::Medium, "Clocks differ by more than a second")
    }));
    all.extend(stock(facts.stocks.memory, &alerts::MEMORY, "memory"));
    all.extend(stock(facts.stocks.descriptors, &alerts::DESCRIPTORS, "descriptors"));
    all
}

fn one(
    component: &Judged,
    rule: &'static Rule,
    severity: Severity,
    title: &str,
    blame: &Blame,
) -> Option<Trouble> {
    let cause = blame.get(&component.id).filter(|_| component.state == State::Down)?;
    let is_cause = *cause == component.id;
    Some(Trouble {
        rule,
        severity,
        title: title.to_owned(),
        why: component.why.clone().unwrap_or_default(),
        affects: suffering(blame, std::slice::from_ref(&component.id)),
        standing: if is_cause { Standing::Cause } else { Standing::Effect },
    })
}

/// Who suffers from any of these, themselves left out.
fn suffering(blame: &Blame, causes: &[String]) -> Vec<String> {
    let mut by_cause = sufferers(blame);
    let mut all: Vec<String> =
        causes.iter().flat_map(|id| by_cause.remove(id.as_str()).unwrap_or_default()).collect();
    all.sort_unstable();
    all
}

/// Those of a kind that fail by themselves are one trouble: what takes away half of them is rarely many things.
fn many(
    components: &[Judged],
    kind: &str,
    kinds: &str,
    rule: &'static Rule,
    blame: &Blame,
) -> Option<Trouble> {
    let is_of_kind =
        |c: &&Judged| c.id == kind || c.id.strip_prefix(kind).is_some_and(|r| r.starts_with(':'));
    let all: Vec<&Judged> = components.iter().filter(is_of_kind).collect();
    let down: Vec<&Judged> = all.iter().copied().filter(|c| c.state == State::Down).collect();
    let causes: Vec<&Judged> = down.iter().copied().filter(|c| blame.get(&c.id) == Some(&c.id)).collect();
    let (shown, standing) = match (down.is_empty(), causes.is_empty()) {
        (true, _) => return None,
        (false, true) => (down, Standing::Effect),
        (false, false) => (causes, Standing::Cause),
    };
    let name = |c: &Judged| c.node.clone().unwrap_or_else(|| c.id.clone());
    let whys: Vec<String> =
        shown.iter().map(|c| format!("{}: {}", name(c), c.why.as_deref().unwrap_or("down"))).collect();
    let ids: Vec<String> = shown.iter().map(|c| c.id.clone()).collect();
    let most = shown.len() * 2 >= all.len();
    Some(Trouble {
        rule,
        severity: if most { Severity::Critical } else { Severity::High },
        title: format!("{} of {} {kinds} {} not answer", shown.len(), all.len(), does(shown.len())),
        why: listed(&whys),
        affects: {
            let mut affects = suffering(blame, &ids);
            affects.extend(ids);
            affects
        },
        standing,
    })
}

fn does(count: usize) -> &'static str {
    if count == 1 { "does" } else { "do" }
}

fn warning(component: &Judged, rule: &'static Rule, severity: Severity, title: &str) -> Option<Trouble> {
    let why = component.why.clone().filter(|_| component.state == State::Warning)?;
    Some(Trouble {
        rule,
        severity,
        title: title.to_owned(),
        why,
        affects: Vec::new(),
        standing: Standing::Cause,
    })
}

fn certificate(facts: &Facts, blame: &Blame) -> Option<Trouble> {
    let ends_ms = facts.certificate_ends_ms?;
    let left_ms = judge::left_ms(facts, ends_ms);
    if left_ms > judge::CERTIFICATE_MARGIN_MS {
        return None;
    }
    let over = left_ms == 0;
    let severity = if over {
        Severity::Critical
    } else if left_ms <= CERTIFICATE_URGENT_MS {
        Severity::High
    } else {
        Severity::Medium
    };
    Some(Trouble {
        rule: &alerts::CERTIFICATE,
        severity,
        title: if over { "A certificate has ended" } else { "A certificate ends soon" }.to_owned(),
        why: if over { "nobody new can connect".to_owned() } else { judge::ends_in(left_ms) },
        affects: suffering(blame, &["certificates".to_owned()]),
        standing: Standing::Cause,
    })
}

fn stock(share: Option<f64>, rule: &'static Rule, what: &str) -> Option<Trouble> {
    let share = share.filter(|share| *share >= judge::STOCK_SHARE_MAX)?;
    let is_critical = share >= STOCK_SHARE_CRITICAL;
    Some(Trouble {
        rule,
        severity: if is_critical { Severity::High } else { Severity::Medium },
        title: format!("This process runs out of {what}"),
        why: format!("{:.0} % are used; told from {:.0} %", share * 100.0, judge::STOCK_SHARE_MAX * 100.0),
        affects: Vec::new(),
        standing: Standing::Cause,
    })
}
