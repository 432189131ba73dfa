//! A node with sixteen places and a surge, in virtual time.

use super::emulated::Emulated;
use super::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

const WORK: Duration = Duration::from_millis(20);
const SLOTS: u32 = 16;
/// Calls a second that sixteen places can do.
const CAPACITY: f64 = 800.0;

/// What a gateway believes of what the node said last, as it does: for 50 ms.
#[derive(Clone, Default)]
struct Word(Arc<Mutex<Option<(Instant, Cursor)>>>);

impl Word {
    fn refuses(&self, priority: Priority) -> bool {
        let said = *self.0.lock().unwrap();
        said.is_some_and(|(at, cursor)| at.elapsed() < Duration::from_millis(50) && !cursor.admits(priority))
    }
}

/// Of each class: how many came, and how many were answered.
type Counts = [(u32, u32); 4];

/// Calls of all classes in equal parts, evenly spaced, for so long; and the longest that a call took.
async fn surge(
    gate: &Gate,
    work: &Emulated,
    per_second: f64,
    lasts: Duration,
    seed: u64,
) -> (Counts, Duration) {
    let mut draw = StdRng::seed_from_u64(seed);
    let mut calls = JoinSet::new();
    let start = Instant::now();
    let (mut due, word) = (0.0, Word::default());
    while start.elapsed() < lasts {
        // Timers tick in milliseconds.
        if due < 1.0 {
            sleep(Duration::from_millis(1)).await;
            due += per_second / 1e3;
            continue;
        }
        due -= 1.0;
        let class = Class::ALL[draw.random_range(0..4)];
        let priority = Priority::new(class, draw.random());
        let (gate, work, word) = (gate.clone(), work.clone(), word.clone());
        calls.spawn(async move {
            let came = Instant::now();
            if word.refuses(priority) {
                return (class, None);
            }
            // There and back again.
            sleep(Duration::from_millis(1)).await;
            let entered = gate.enter(class, priority, Some(Duration::from_secs(3))).await;
            match &entered {
                Ok(_place) => work.work().await,
                Err(away) => *word.0.lock().unwrap() = Some((Instant::now(), away.cursor)),
            }
            (class, entered.is_ok().then(|| came.elapsed()))
        });
    }
    let (mut counts, mut longest) = (Counts::default(), Duration::ZERO);
    while let Some(ended) = calls.join_next().await {
        let (class, took) = ended.unwrap();
        let count = &mut counts[class.index()];
        count.0 += 1;
        count.1 += u32::from(took.is_some());
        longest = longest.max(took.unwrap_or_default());
    }
    (counts, longest)
}

fn answered(counts: &Counts) -> u32 {
    counts.iter().map(|(_, answered)| answered).sum()
}

fn parts(counts: &Counts) -> [f64; 4] {
    counts.map(|(came, answered)| f64::from(answered) / f64::from(came))
}

#[tokio::test(start_paused = true)]
async fn what_can_be_answered_is_and_scans_go_first() {
    let (gate, work) = (Gate::new(IN_FLIGHT), Emulated::new(SLOTS, WORK));
    let seconds = Duration::from_secs(2);
    let (calm, _) = surge(&gate, &work, 0.7 * CAPACITY, seconds, 1).await;
    assert_eq!(parts(&calm), [1.0; 4], "below its capacity nobody is sent away");
    for (times, least, seed) in [(2.0, 0.97, 2), (3.0, 0.95, 3), (10.0, 0.90, 4)] {
        // The first second is the step; what is measured comes after it.
        surge(&gate, &work, times * CAPACITY, Duration::from_secs(1), seed).await;
        let lasts = Duration::from_secs(5);
        let (counts, longest) = surge(&gate, &work, times * CAPACITY, lasts, seed).await;
        let goodput = f64::from(answered(&counts)) / CAPACITY / lasts.as_secs_f64();
        let [scan, show, query, sync] = parts(&counts);
        println!(
            "{times} x: {goodput:.3} of the capacity; scan {scan:.4}, show {show:.3}, query {query:.3}, \
             sync {sync:.3}; at most {longest:?}"
        );
        assert!(goodput >= least, "{times}: {goodput}");
        assert!(scan >= show && show >= query && query >= sync, "{times}: {counts:?}");
        // Scans alone are more than can be done at ten times the capacity.
        assert!(times > 4.0 || scan >= 0.999, "{times}: {scan}");
        assert!(longest <= Duration::from_millis(250), "{times}: {longest:?}");
    }
    // The surge is over: soon everybody is let in again.
    surge(&gate, &work, 0.7 * CAPACITY, Duration::from_secs(3), 5).await;
    let (after, _) = surge(&gate, &work, 0.7 * CAPACITY, seconds, 6).await;
    assert_eq!((parts(&after), gate.cursor()), ([1.0; 4], Cursor::OPEN));
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_shows_of_a_subject_decides_for_all_of_its_calls() {
    let (gate, work) = (Gate::new(IN_FLIGHT), Emulated::new(SLOTS, WORK));
    surge(&gate, &work, 10.0 * CAPACITY, Duration::from_secs(2), 7).await;
    let cursor = gate.cursor();
    assert!(cursor < Cursor::OPEN);
    let away = gate.enter(Class::Sync, Priority::new(Class::Sync, 127), None).await;
    assert_eq!(away.unwrap_err(), SentAway { cursor });
    assert_eq!(gate.pass(Priority::new(Class::Sync, 127)), Err(SentAway { cursor }));
    assert_eq!(gate.pass(Priority::new(Class::Scan, 0)), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_away_leaves_no_place_taken() {
    let gate = Gate::new(4);
    let enter = || gate.enter(Class::Scan, Priority::new(Class::Scan, 0), None);
    for round in 0..50 {
        let running: Vec<Permit> = {
            let mut running = Vec::new();
            for _ in 0..4 {
                running.push(enter().await.unwrap());
            }
            running
        };
        let mut waiting = Box::pin(enter());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        match round % 3 {
            // It goes while it waits.
            0 => drop((waiting, running)),
            // It goes when a place was given to it, and before it knows.
            1 => drop((running, waiting)),
            // It waits for longer than anybody may.
            _ => {
                advance(PATIENCE + Duration::from_millis(1)).await;
                assert!(waiting.await.is_err());
                drop(running);
            }
        }
        assert_eq!(gate.lock().running, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_higher_class_begins_before_a_lower_one_and_a_short_deadline_waits_less() {
    let gate = Gate::new(4);
    let mut running = Vec::new();
    let enter = |class, left| gate.enter(class, Priority::new(class, 0), left);
    for class in [Class::Sync, Class::Sync, Class::Scan, Class::Scan] {
        running.push(enter(class, None).await.unwrap());
    }
    let mut query = Box::pin(enter(Class::Query, None));
    let mut scan = Box::pin(enter(Class::Scan, None));
    let mut short = Box::pin(enter(Class::Scan, Some(Duration::from_millis(40))));
    for waiting in [&mut query, &mut scan, &mut short] {
        assert!(futures_util::poll!(waiting).is_pending());
    }
    advance(Duration::from_millis(11)).await;
    assert!(short.await.is_err(), "a quarter of its time is over");
    drop(running.pop());
    assert!(futures_util::poll!(&mut query).is_pending());
    let scanned = scan.await.unwrap();
    drop(scanned);
    assert!(futures_util::poll!(&mut query).is_pending(), "three of four places are all that queries fill");
    drop(running);
    assert!(query.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn slow_work_of_a_lower_class_leaves_places_for_scans() {
    let gate = Gate::new(4);
    let enter = |class| gate.enter(class, Priority::new(class, 0), None);
    let held = [enter(Class::Sync).await.unwrap(), enter(Class::Sync).await.unwrap()];
    let mut sync = Box::pin(enter(Class::Sync));
    assert!(futures_util::poll!(&mut sync).is_pending(), "half of the places");
    let scans = [enter(Class::Scan).await.unwrap(), enter(Class::Scan).await.unwrap()];
    drop(scans);
    assert!(futures_util::poll!(&mut sync).is_pending());
    drop(held);
    assert!(sync.await.is_ok());
}
