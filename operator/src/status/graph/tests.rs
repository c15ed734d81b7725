use super::*;
use proptest::prelude::*;

fn component(id: &str, fault: Fault, needs: &[&str]) -> Judged {
    let state = if fault == Fault::None { State::Up } else { State::Down };
    let one = needs.iter().fold(Judged::up(id, id), |c, need| c.needing(Need::One((*need).to_owned())));
    Judged { state, fault, ..one }
}

fn blamed(components: &[Judged]) -> Vec<(String, String)> {
    blame(components).into_iter().collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn the_end_of_the_chain_is_to_blame() {
    use Fault::{None, Own, Perhaps};
    let chain = |store, backend, gateway| {
        let needs_store = component("backend", backend, &["store"]);
        blamed(&[component("store", store, &[]), needs_store, component("gateway", gateway, &["backend"])])
    };
    let store = [("backend", "store"), ("gateway", "store"), ("store", "store")];
    assert_eq!(chain(None, None, None), []);
    assert_eq!(chain(Own, None, None), pairs(&store), "what only seems well suffers too");
    assert_eq!(chain(Own, Perhaps, Perhaps), pairs(&store));
    assert_eq!(chain(None, Perhaps, Perhaps), pairs(&[("backend", "backend"), ("gateway", "backend")]));
    assert_eq!(chain(None, None, Perhaps), pairs(&[("gateway", "gateway")]));
    // A process that is dead is dead whatever it needs.
    assert_eq!(
        chain(Own, None, Own),
        pairs(&[("backend", "store"), ("gateway", "gateway"), ("store", "store")])
    );
}

#[test]
fn one_of_many_is_missed_only_when_all_are_gone() {
    let managers = |faults: [Fault; 3]| {
        let mut all: Vec<Judged> =
            ["a", "b", "c"].into_iter().zip(faults).map(|(id, fault)| component(id, fault, &[])).collect();
        let any = Need::AnyOf(all.iter().map(|c| c.id.clone()).collect());
        all.push(Judged { fault: Fault::Perhaps, ..Judged::up("probe", "probe").needing(any) });
        blame(&all).remove("probe").unwrap()
    };
    use Fault::{None, Own};
    assert_eq!(managers([None, None, None]), "probe");
    assert_eq!(managers([Own, Own, None]), "probe");
    assert_eq!(managers([Own, Own, Own]), "a");
}

#[test]
fn what_is_only_seen_through_another_is_not_to_blame() {
    let store =
        Judged { seen_through: Some("backend".to_owned()), ..component("store", Fault::Perhaps, &[]) };
    let backend = component("backend", Fault::Own, &["store"]);
    assert_eq!(blamed(&[store, backend]), pairs(&[("backend", "backend"), ("store", "backend")]));
}

#[test]
fn circles_and_what_is_not_there_end() {
    let circle = [component("a", Fault::Perhaps, &["b"]), component("b", Fault::None, &["a", "missing"])];
    assert_eq!(blamed(&circle), pairs(&[("a", "a"), ("b", "a")]));
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![3 => Just(Fault::None), 1 => Just(Fault::Own), 1 => Just(Fault::Perhaps)]
}

proptest! {
    /// Whoever is blamed fails, blames itself, and is reached by needs; whoever fails has somebody to blame.
    #[test]
    fn only_those_who_fail_are_blamed(
        faults in prop::collection::vec(fault(), 1..9),
        edges in prop::collection::vec((0_usize..9, 0_usize..9), 0..20),
    ) {
        let id = |n: usize| format!("c{n}");
        let all: Vec<Judged> = faults.iter().enumerate().map(|(n, fault)| {
            let needs: Vec<String> = edges.iter().filter(|(from, _)| *from == n).map(|(_, to)| id(*to)).collect();
            component(&id(n), *fault, &needs.iter().map(String::as_str).collect::<Vec<_>>())
        }).collect();
        let blame = blame(&all);
        for component in &all {
            match blame.get(&component.id) {
                None => prop_assert_eq!(component.fault, Fault::None),
                Some(cause) => {
                    let blamed = all.iter().find(|c| c.id == *cause).unwrap();
                    prop_assert_ne!(blamed.fault, Fault::None);
                    if component.fault == Fault::Own {
                        prop_assert_eq!(cause, &component.id);
                    }
                }
            }
        }
    }
}
