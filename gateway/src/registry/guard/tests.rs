//! Which absences are applied, over entries made by hand and worlds made by chance.

use super::*;
use proptest::prelude::*;

const CITY: u32 = 440_100;
const PROVINCE: u32 = 440_000;

fn key(region: u32, node: &str, part: Part) -> String {
    let (region, node) = (Code::new(region).unwrap(), node.to_owned());
    Prefix::default().key(&Key::Node { region, node, part })
}

fn entry(key: String, value: &impl prost::Message, mod_revision: i64) -> Entry {
    Entry { key, value: value.encode_to_vec().into(), mod_revision, lease: 0 }
}

fn spec(region: u32, node: &str, scopes: &[u32]) -> Entry {
    let manifest =
        v1::Manifest { region, node: node.to_owned(), scopes: scopes.to_vec(), ..Default::default() };
    entry(key(region, node, Part::Spec), &v1::NodeSpec { manifest: Some(manifest), ..Default::default() }, 1)
}

#[test]
fn a_signed_manifest_says_which_regions_its_node_serves() {
    let plain = spec(PROVINCE, "yuekang", &[PROVINCE, CITY]);
    let stored = v1::NodeSpec::decode(plain.value.clone()).unwrap();
    let payload = stored.manifest.unwrap().encode_to_vec().into();
    let chain = vec![b"certificate".to_vec().into()];
    let signed = v1::SignedRecord { payload, signature: b"signature".to_vec().into(), chain };
    let signed = entry(plain.key.clone(), &signed, 1);
    for entry in [plain, signed] {
        let census = Census::of(&Prefix::default(), [&entry].into_iter());
        let node = (Code::new(PROVINCE).unwrap(), "yuekang".to_owned());
        assert_eq!(census.scopes(&node).collect::<Vec<_>>(), [PROVINCE, CITY]);
    }
}

fn live(region: u32, node: &str, endpoint: &str) -> Entry {
    let value = v1::LiveEndpoint { address: "127.0.0.1:1".to_owned(), ..Default::default() };
    entry(key(region, node, Part::Live(endpoint.to_owned())), &value, 1)
}

fn gone(region: u32, node: &str, endpoint: &str, mod_revision: i64) -> Entry {
    entry(key(region, node, Part::Gone(endpoint.to_owned())), &v1::Departure::default(), mod_revision)
}

/// A registry and the guard over it.
struct World {
    heard: Entries,
    guard: Guard,
    now: Instant,
}

impl World {
    fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let heard = entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        Self { heard, guard: Guard::new(Prefix::default(), []), now: Instant::now() }
    }

    /// So many nodes with one endpoint each, of one region.
    fn crowd(nodes: usize) -> Self {
        let of = |n: usize| {
            let name = format!("node-{n:03}");
            [spec(CITY, &name, &[CITY]), live(CITY, &name, "a")]
        };
        Self::new((0..nodes).flat_map(of))
    }

    fn lose(&mut self, keys: impl IntoIterator<Item = String>) {
        let gone = keys.into_iter().filter_map(|key| self.heard.remove(&key)).collect();
        self.guard.absent(gone, &self.heard, self.now);
    }

    fn lose_nodes(&mut self, numbers: impl IntoIterator<Item = usize>) {
        self.lose(
            numbers.into_iter().map(|n| key(CITY, &format!("node-{n:03}"), Part::Live("a".to_owned()))),
        );
    }

    fn put(&mut self, entry: Entry) {
        self.guard.put(&entry);
        self.heard.insert(entry.key.clone(), entry);
    }

    fn goodbye(&mut self, region: u32, node: &str, endpoint: &str) {
        self.put(gone(region, node, endpoint, i64::MAX));
        self.lose([key(region, node, Part::Live(endpoint.to_owned()))]);
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
        self.guard.tick(self.now);
    }

    fn applies(&self, key: &str) -> bool {
        self.guard.applied(&self.heard).contains_key(key)
    }

    fn held(&self) -> usize {
        self.guard.held().len()
    }
}

fn live_key(region: u32, node: &str) -> String {
    key(region, node, Part::Live("a".to_owned()))
}

#[test]
fn few_absences_are_applied_and_one_more_brings_all_back() {
    let mut world = World::crowd(12);
    world.lose_nodes([0, 1]);
    world.after(Duration::from_secs(30));
    world.lose_nodes([2]);
    assert_eq!((world.held(), world.guard.applied(&world.heard).len()), (0, 21));
    world.after(Duration::from_secs(20));
    world.lose_nodes([3]);
    assert_eq!((world.held(), world.guard.applied(&world.heard).len()), (4, 24));
    assert!(world.guard.held().values().all(|held| held.cause == Cause::TooMany));
}

#[test]
fn in_a_large_federation_a_fifth_may_go() {
    let mut world = World::crowd(100);
    world.lose_nodes(0..20);
    assert_eq!(world.held(), 0);
    world.lose_nodes([20]);
    assert_eq!(world.held(), 21);
}

#[test]
fn absences_that_are_a_minute_apart_do_not_count_together() {
    let mut world = World::crowd(12);
    for n in 0..8 {
        world.lose_nodes([n]);
        world.after(Duration::from_secs(25));
    }
    assert_eq!(world.held(), 0);
}

#[test]
fn endpoints_count_like_nodes() {
    let endpoints = (0..8).map(|n| live(CITY, "a", &format!("e{n}")));
    let other = [spec(CITY, "a", &[CITY]), spec(CITY, "b", &[CITY]), live(CITY, "b", "a")];
    let mut world = World::new(endpoints.chain(other));
    world.lose((0..3).map(|n| key(CITY, "a", Part::Live(format!("e{n}")))));
    assert_eq!(world.held(), 0);
    world.lose([key(CITY, "a", Part::Live("e3".to_owned()))]);
    assert_eq!(world.held(), 4);
}

#[test]
fn the_last_node_of_a_region_is_held_and_the_province_keeps_a_region_from_being_empty() {
    let city = [spec(CITY, "city", &[CITY]), live(CITY, "city", "a")];
    let province = [spec(PROVINCE, "province", &[PROVINCE, CITY]), live(PROVINCE, "province", "a")];
    let mut world = World::new(city.into_iter().chain(province));
    world.lose([live_key(CITY, "city")]);
    assert!(!world.applies(&live_key(CITY, "city")), "the province still answers for the city");
    world.lose([live_key(PROVINCE, "province")]);
    // Now nobody would be left; and the city's node, which went less than a minute ago, comes back.
    assert!(world.applies(&live_key(PROVINCE, "province")) && world.applies(&live_key(CITY, "city")));
    assert!(world.guard.held().values().all(|held| held.cause == Cause::RegionEmpty));
}

#[test]
fn nodes_of_the_configuration_keep_a_region_from_being_empty() {
    let mut world = World::new([spec(CITY, "city", &[CITY]), live(CITY, "city", "a")]);
    world.guard = Guard::new(Prefix::default(), [Code::new(CITY).unwrap()]);
    world.lose([live_key(CITY, "city")]);
    assert_eq!(world.held(), 0);
}

#[test]
fn a_lost_spec_is_the_loss_of_its_node_with_its_keys() {
    let keys = entry(key(CITY, "city", Part::Keys), &v1::NodeKeys::default(), 1);
    let mut world = World::new([spec(CITY, "city", &[CITY]), live(CITY, "city", "a"), keys]);
    world.lose([key(CITY, "city", Part::Keys), key(CITY, "city", Part::Spec)]);
    assert_eq!(world.held(), 2);
    assert!(world.applies(&key(CITY, "city", Part::Spec)) && world.applies(&key(CITY, "city", Part::Keys)));
}

#[test]
fn goodbyes_are_applied_however_many_and_whatever_they_leave() {
    let mut world = World::crowd(12);
    for n in 0..12 {
        world.goodbye(CITY, &format!("node-{n:03}"), "a");
    }
    assert_eq!(world.held(), 0);
    assert!((0..12).all(|n| !world.applies(&live_key(CITY, &format!("node-{n:03}")))));
}

#[test]
fn a_goodbye_explains_what_is_older_only() {
    let mut world = World::new([spec(CITY, "city", &[CITY]), gone(CITY, "city", "a", 5)]);
    world.put(Entry { mod_revision: 6, ..live(CITY, "city", "a") });
    world.lose([live_key(CITY, "city")]);
    assert_eq!(world.held(), 1, "it came back after that goodbye, and was lost");
    world.put(gone(CITY, "city", "a", 7));
    assert_eq!(world.held(), 0, "a goodbye that comes later is a goodbye");
}

#[test]
fn what_comes_back_is_held_no_more_and_what_does_not_goes_after_its_time() {
    let mut world = World::crowd(5);
    world.lose_nodes(0..5);
    assert_eq!(world.held(), 5);
    world.put(live(CITY, "node-000", "a"));
    assert_eq!(world.held(), 4);
    world.after(HOLD.saturating_sub(Duration::from_secs(1)));
    assert_eq!(world.held(), 4);
    assert_eq!(world.guard.next().map(|at| at - world.now), Some(Duration::from_secs(1)));
    world.after(Duration::from_secs(1));
    assert_eq!((world.held(), world.guard.next()), (0, None));
    assert!(!world.applies(&live_key(CITY, "node-001")));
}

#[test]
fn an_accepted_absence_is_applied() {
    let mut world = World::crowd(5);
    world.lose_nodes(0..5);
    assert_eq!(world.guard.accept().len(), 5);
    assert_eq!((world.held(), world.guard.applied(&world.heard).len()), (0, 5));
}

#[test]
fn what_is_no_node_is_deleted_by_those_who_mean_it() {
    let policy = entry("/suiyue/v1/regions/440100".to_owned(), &v1::RegionPolicy::default(), 1);
    let intent = entry(key(CITY, "city", Part::Intent), &v1::NodeIntent::default(), 1);
    let keys = [policy.key.clone(), intent.key.clone()];
    let mut world = World::new([policy, intent]);
    world.lose(keys);
    assert_eq!(world.held(), 0);
}

#[test]
fn a_wiped_registry_loses_nothing_until_somebody_accepts_it() {
    let policy = entry("/suiyue/v1/regions/440100".to_owned(), &v1::RegionPolicy::default(), 1);
    let presence = entry("/suiyue/v1/gateways/gw-1".to_owned(), &v1::GatewayPresence::default(), 1);
    let mut world = World::new([spec(CITY, "city", &[CITY]), live(CITY, "city", "a"), policy, presence]);
    let before = std::mem::take(&mut world.heard);
    world.guard.restored(&before, &world.heard, world.now);
    assert_eq!(*world.guard.applied(&world.heard), before);
    // Gateways that do not come back at once are not counted for long.
    world.after(PRESENCE_HOLD);
    assert_eq!(world.held(), 3);
    world.after(HOLD * 100);
    assert_eq!(world.held(), 3);
    world.put(live(CITY, "city", "a"));
    assert_eq!(world.held(), 2, "written again: the newest word");
    world.guard.accept();
    assert_eq!(*world.guard.applied(&world.heard), world.heard);
}

#[test]
fn of_two_histories_the_later_word_about_an_endpoint_counts() {
    let said = |incarnation, written_unix_ms| {
        let value = v1::LiveEndpoint { incarnation, written_unix_ms, ..Default::default() };
        entry(key(CITY, "city", Part::Live("a".to_owned())), &value, 1)
    };
    let check = |old: Entry, new: Entry, held: usize| {
        let mut world = World::new([new]);
        let before = [(old.key.clone(), old)].into();
        world.guard.restored(&before, &world.heard, world.now);
        assert_eq!(world.held(), held);
    };
    check(said(2, 200), said(1, 100), 1);
    check(said(1, 100), said(2, 200), 0);
    check(said(1, 100), said(1, 50), 0);
    check(said(1, 100), said(1, 100), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Lose(Vec<usize>),
    Goodbye(usize),
    Return(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        proptest::collection::vec(0..16usize, 1..6).prop_map(Step::Lose),
        (0..16usize).prop_map(Step::Goodbye),
        (0..16usize).prop_map(Step::Return),
        (1..200u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Sixteen nodes: four regions with one node each, and twelve nodes of one region.
fn name(n: usize) -> (u32, String) {
    let region = if n < 4 { 610_100 + 100 * n as u32 } else { CITY };
    (region, format!("node-{n:03}"))
}

proptest! {
    #[test]
    fn a_region_that_somebody_serves_is_never_emptied_unexplained(steps in steps()) {
        let nodes = (0..16).map(name);
        let mut world = World::new(nodes.flat_map(|(region, name)| [spec(region, &name, &[region]), live(region, &name, "a")]));
        // When each node was last lost, and whether it has left by itself.
        let mut left = [false; 16];
        let mut lost: [Option<Instant>; 16] = [None; 16];
        for step in steps {
            match step {
                Step::Lose(numbers) => {
                    let keys: Vec<String> = numbers.iter().map(|n| name(*n)).map(|(r, n)| live_key(r, &n)).collect();
                    for (n, key) in numbers.iter().zip(&keys) {
                        if world.heard.contains_key(key) {
                            lost[*n] = Some(world.now);
                        }
                    }
                    world.lose(keys);
                }
                Step::Goodbye(n) => {
                    let (region, name) = name(n);
                    world.goodbye(region, &name, "a");
                    left[n] = true;
                    // Explained, and at once.
                    prop_assert!(!world.applies(&live_key(region, &name)));
                }
                Step::Return(n) => {
                    let (region, name) = name(n);
                    world.heard.remove(&key(region, &name, Part::Gone("a".to_owned())));
                    world.put(live(region, &name, "a"));
                    (left[n], lost[n]) = (false, None);
                    prop_assert!(world.applies(&live_key(region, &name)));
                }
                Step::Wait(seconds) => world.after(Duration::from_secs(seconds)),
            }
            // Nothing that the registry has is kept out.
            prop_assert!(world.heard.keys().all(|key| world.applies(key)));
            // A region with one node keeps it, if it did not leave, for the whole time of the hold.
            for n in 0..4 {
                let (region, name) = name(n);
                let long_lost = lost[n].is_some_and(|at| world.now - at >= HOLD);
                if !left[n] && !long_lost {
                    prop_assert!(world.applies(&live_key(region, &name)), "{name}");
                }
            }
            // What was lost in the last minute and is out of the table is never too much.
            let out = (0..16).filter(|&n| {
                let (region, name) = name(n);
                let fresh = lost[n].is_some_and(|at| world.now - at < WINDOW);
                fresh && !left[n] && !world.applies(&live_key(region, &name))
            });
            prop_assert!(!too_many(out.count(), 16));
            // And nothing is held for longer than it may be.
            prop_assert!(world.guard.held().values().all(|held| held.until.is_some_and(|until| until > world.now)));
        }
    }
}
