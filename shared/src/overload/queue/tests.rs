use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn job(key: u64, class: Class, protocol: Protocol, deadline: Nanos) -> Job {
    Job { key: JobKey(key), protocol, class, bytes: 10, deadline }
}

#[test]
fn each_class_has_its_order_and_its_protocols() {
    let mut queue = Queue::default();
    queue.push(job(1, Class::Talk, Protocol::MessageSend, 50), 1);
    queue.push(job(2, Class::Talk, Protocol::Delivery, 40), 2);
    queue.push(job(3, Class::Talk, Protocol::MessageSend, 60), 3);
    queue.push(job(1, Class::Wake, Protocol::MessageSend, 30), 4);
    let oldest = |queue: &Queue, protocols| queue.oldest(Class::Talk, protocols).map(|(_, w)| w.job.key.0);
    assert_eq!(oldest(&queue, ANY), Some(1));
    assert_eq!(oldest(&queue, bit(Protocol::Delivery)), Some(2));
    assert_eq!(oldest(&queue, bit(Protocol::Ping)), None);
    assert_eq!(queue.newest(Class::Talk, ANY).map(|(_, w)| w.job.key.0), Some(3));
    assert_eq!(queue.first_due().map(|(_, due)| due), Some(30));
    let total =
        Total { count: 3, bytes: 30, protocols: bit(Protocol::MessageSend) | bit(Protocol::Delivery) };
    assert_eq!(queue.total(Class::Talk), total);
    let place = queue.find(JobKey(2), Class::Talk).unwrap();
    assert_eq!(queue.remove(place).unwrap().job.key, JobKey(2));
    assert!(queue.remove(place).is_none() && queue.get(place).is_none());
    assert_eq!(queue.total(Class::Talk).protocols, bit(Protocol::MessageSend));
}

#[test]
fn a_store_that_has_been_full_before_does_not_grow() {
    let mut queue = Queue::default();
    let mut room = None;
    for round in 0..1_000 {
        for key in 0..100 {
            // All deadlines are far away, so none is passed while its job waits.
            queue.push(job(key, Class::Talk, Protocol::MessageSend, 1_000_000 + round), round);
        }
        for key in 0..100 {
            let place = queue.find(JobKey(key), Class::Talk).unwrap();
            queue.remove(place).unwrap();
        }
        let capacity = (queue.nodes.capacity(), queue.deadlines.capacity(), queue.places.capacity());
        if round == 10 {
            room = Some(capacity);
        }
        assert!(round < 10 || room == Some(capacity), "round {round}: {capacity:?}");
        assert!(queue.deadlines.len() <= 2 * queue.len() + GONE_MAX);
    }
}

proptest! {
    #[test]
    fn it_is_what_a_sorted_list_would_be(
        steps in prop::collection::vec((0u8..3, 0u64..30, 0usize..3, 0usize..3, 0u64..1_000), 1..300),
    ) {
        let mut queue = Queue::default();
        let mut model: BTreeMap<u64, Job> = BTreeMap::new();
        let classes = [Class::Talk, Class::Look, Class::Wake];
        for (order, (kind, key, class, protocol, deadline)) in steps.into_iter().enumerate() {
            let (class, protocol) = (classes[class], Protocol::ALL[protocol]);
            let place = queue.find(JobKey(key), class);
            let known = model.iter().find(|(_, j)| j.key.0 == key && j.class == class).map(|(o, _)| *o);
            prop_assert_eq!(place.is_some(), known.is_some());
            match (kind, place, known) {
                (0, Some(place), Some(known)) => {
                    let removed = queue.remove(place).map(|w| w.job);
                    prop_assert_eq!(removed, model.remove(&known));
                }
                (_, None, None) => {
                    queue.push(job(key, class, protocol, deadline), order as u64);
                    model.insert(order as u64, job(key, class, protocol, deadline));
                }
                _ => {}
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.first_due().map(|(_, due)| due), model.values().map(|j| j.deadline).min());
            for class in classes {
                let of_class: Vec<_> = model.values().filter(|j| j.class == class).collect();
                prop_assert_eq!(queue.total(class).count as usize, of_class.len());
                for protocols in [ANY, bit(Protocol::Ping), bit(Protocol::Ping) | bit(Protocol::AppState)] {
                    let mut some = of_class.iter().filter(|j| bit(j.protocol) & protocols != 0).map(|j| **j);
                    prop_assert_eq!(queue.oldest(class, protocols).map(|(_, w)| w.job), some.clone().next());
                    prop_assert_eq!(queue.newest(class, protocols).map(|(_, w)| w.job), some.next_back());
                }
            }
        }
    }
}
