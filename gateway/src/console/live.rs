//! How does a page stay true?
//!
//! A stream of server-sent events: whenever something was measured or planned, the parts of the page are
//! drawn again, and those that differ from what was sent last go out, each as the event of its element's
//! id. The stream ends with the session and with the gateway; streams are bounded in number, for all and
//! for one session, and a reader that takes nothing holds one drawing back, not a queue of them.

use super::{
    Console, Fields,
    door::Session,
    fault::{Fault, Why},
    federation, history, page, shift,
    visitor::Visitor,
};
use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    response::Response,
};
use http::{HeaderValue, header};
use maud::Markup;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

/// Streams at a time: fewer than connections of the admin port, which scrapes need too.
const MAX_STREAMS: usize = 32;
/// Of them for one session: browsers open six connections, and pages need some, too.
const MAX_OF_ONE: usize = 4;
/// Something is sent at least so often: a proxy on the way must not close the stream, a reader that is gone
/// must be noticed, and so must a gateway that hangs (the page's script waits 30 s).
const ALIVE: Duration = Duration::from_secs(10);

/// Counts streams.
#[derive(Debug, Default, Clone)]
pub(super) struct Streams(Arc<Mutex<Vec<usize>>>);

/// One place among the streams; free when it is dropped.
struct Place(Streams, usize);

impl Streams {
    fn place(&self, session: &Arc<Session>) -> Option<Place> {
        let of = Arc::as_ptr(session) as usize;
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = streams.iter().filter(|&&known| known == of).count();
        if streams.len() >= MAX_STREAMS || own >= MAX_OF_ONE {
            return None;
        }
        streams.push(of);
        Some(Place(self.clone(), of))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = streams.iter().position(|&known| known == self.1) {
            streams.swap_remove(at);
        }
    }
}

/// What a stream is about.
enum View {
    Federation { region: Option<u32> },
    Shift,
    History,
}

impl View {
    fn of(fields: &Fields) -> Option<Self> {
        match fields.get("view") {
            "federation" => Some(Self::Federation { region: fields.get("region").parse().ok() }),
            "shift" => Some(Self::Shift),
            "history" => Some(Self::History),
            _ => None,
        }
    }

    /// The parts of the page by their ids.
    async fn draw(&self, console: &Console, visitor: &Visitor) -> Vec<(&'static str, Markup)> {
        match self {
            Self::Federation { region } => federation::parts(console, visitor, *region).await,
            Self::Shift => shift::parts(console, visitor).await,
            Self::History => history::parts(console, visitor).await,
        }
    }
}

/// The stream of a page.
pub(super) async fn events(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let lang = visitor.lang;
    let refuse = |why| page::refusal(lang, &Fault::of(why));
    let Some(view) = View::of(&Fields(query)) else { return refuse(Why::Lost) };
    let Some(place) = console.0.streams.place(&visitor.session) else { return refuse(Why::Streams) };
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(tell(console, visitor, view, sender, place));
    let stream = ReceiverStream::new(receiver).map(Ok::<_, std::convert::Infallible>);
    let mut response = Response::new(Body::from_stream(stream));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Tells until the session has ended, the gateway ends, or nobody listens any more.
async fn tell(console: Console, visitor: Visitor, view: View, sender: mpsc::Sender<Bytes>, place: Place) {
    let session = visitor.session.clone();
    let telling = async {
        let mut sent: HashMap<&'static str, String> = HashMap::new();
        let mut looked = console.0.recorder.looked();
        let mut planned = console.0.operator.snapshots.subscribe();
        let mut told = Instant::now();
        loop {
            let mut text = String::new();
            for (id, part) in view.draw(&console, &visitor).await {
                let drawn = part.into_string();
                if sent.get(id) != Some(&drawn) {
                    write(&mut text, id, &drawn);
                    sent.insert(id, drawn);
                }
            }
            if text.is_empty() && told.elapsed() >= ALIVE {
                write(&mut text, "alive", "-");
            }
            if !text.is_empty() {
                told = Instant::now();
                if sender.send(text.into()).await.is_err() {
                    return;
                }
            }
            // Plans may come in bursts: the next drawing shows them all.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let wake = async {
                tokio::select! {
                    look = looked.changed() => look.is_ok(),
                    plan = planned.changed() => plan.is_ok(),
                }
            };
            if !wake.await {
                return;
            }
        }
    };
    tokio::select! {
        () = telling => {}
        () = sender.closed() => {}
        () = console.0.ended.cancelled() => {}
        () = session.ended() => {
            let _ = sender.send(Bytes::from_static(b"event: ended\ndata: -\n\n")).await;
        }
    }
    drop(place);
}

/// One event.
fn write(text: &mut String, id: &str, data: &str) {
    text.push_str("event: ");
    text.push_str(id);
    // A bare carriage return ends a line here, too.
    for line in data.split(['\n', '\r']) {
        text.push_str("\ndata: ");
        text.push_str(line);
    }
    text.push_str("\n\n");
}

/// Where the news of a page come from.
pub(super) fn path(view: &str, region: Option<u32>) -> String {
    let region = region.map_or_else(String::new, |code| format!("&region={code}"));
    format!("/console/events?view={view}{region}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::actor::Actor,
        console::door::{By, Doors},
    };

    #[test]
    fn streams_are_bounded_for_one_and_for_all() {
        let doors = Doors::new(Default::default(), "127.0.0.1:1".parse().unwrap());
        let session = || {
            let cookie = doors.enter(Actor::local("wang"), By::Token).unwrap();
            doors.inside(&cookie, None).unwrap()
        };
        let streams = Streams::default();
        let one = session();
        let mut places: Vec<Place> = (0..MAX_OF_ONE).map(|_| streams.place(&one).unwrap()).collect();
        assert!(streams.place(&one).is_none());
        places.pop();
        assert!(streams.place(&one).is_some(), "a place that was left is free");
        let others: Vec<_> = (0..MAX_STREAMS).map(|_| session()).collect();
        let more: Vec<Place> = others.iter().filter_map(|other| streams.place(other)).collect();
        assert_eq!(places.len() + more.len(), MAX_STREAMS);
    }

    #[test]
    fn an_event_has_a_line_of_data_for_each_line() {
        let mut text = String::new();
        write(&mut text, "regions", "a\nb");
        write(&mut text, "news", "");
        assert_eq!(text, "event: regions\ndata: a\ndata: b\n\nevent: news\ndata: \n\n");
        text.clear();
        write(&mut text, "audit", "x\revent: ended\r");
        assert_eq!(text, "event: audit\ndata: x\ndata: event: ended\ndata: \n\n");
    }
}
