use std::net::IpAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;

fn limits() -> ConnectionLimits {
    ConnectionLimits {
        connections: 3,
        per_address: 2,
        requests: 4,
        first_request: Duration::from_millis(50),
        idle: Duration::from_millis(100),
        write: Duration::from_millis(100),
    }
}

fn admit(connections: &Connections, last: u8) -> Option<ConnectionPlace> {
    connections.admit(Some(IpAddr::from([10, 0, 0, last])))
}

fn is_closed(place: &ConnectionPlace) -> bool {
    place.ending(None).close.is_cancelled()
}

#[test]
fn a_connection_that_never_asked_goes_first() {
    let connections = Connections::new(limits());
    let asked = admit(&connections, 1).unwrap();
    drop(asked.request());
    let silent = admit(&connections, 2).unwrap();
    let _other = admit(&connections, 3).unwrap();
    let new = admit(&connections, 4).unwrap();
    assert!(is_closed(&silent) && !is_closed(&asked) && !is_closed(&new));
}

#[test]
fn an_address_loses_a_connection_of_its_own() {
    let connections = Connections::new(limits());
    let first = admit(&connections, 1).unwrap();
    let second = admit(&connections, 1).unwrap();
    let other = admit(&connections, 2).unwrap();
    let third = admit(&connections, 1).unwrap();
    assert!(is_closed(&first) && !is_closed(&second) && !is_closed(&other) && !is_closed(&third));
    // One that is at work does not go.
    let _busy = (second.request().unwrap(), third.request().unwrap());
    assert!(admit(&connections, 1).unwrap().is_reserve());
    assert!(!is_closed(&second) && !is_closed(&third));
}

#[test]
fn a_proxy_stands_for_many_clients() {
    let connections = Connections::new(limits());
    let all: Vec<_> = (0..3).map(|_| connections.admit(None).unwrap()).collect();
    assert!(all.iter().all(|place| !is_closed(place) && !place.is_reserve()));
}

#[test]
fn where_all_are_at_work_a_few_are_taken_for_health_checks() {
    let connections = Connections::new(limits());
    let all: Vec<_> = (1..=3).map(|last| admit(&connections, last).unwrap()).collect();
    let _requests: Vec<_> = all.iter().map(|place| place.request().unwrap()).collect();
    let reserve: Vec<_> = (0..40).filter_map(|number| admit(&connections, 100 + number)).collect();
    assert!(reserve.iter().all(ConnectionPlace::is_reserve));
    // Those of the reserve that have not asked make way for others.
    assert!(all.iter().all(|place| !is_closed(place)));
    assert!(!is_closed(reserve.last().unwrap()));
    drop(reserve);
    drop(all);
    assert!(!admit(&connections, 1).unwrap().is_reserve());
}

#[test]
fn a_connection_may_always_have_two_requests() {
    let connections = Connections::new(limits());
    let (greedy, modest) = (admit(&connections, 1).unwrap(), admit(&connections, 2).unwrap());
    let held: Vec<_> = std::iter::from_fn(|| greedy.request()).take(100).collect();
    assert_eq!(held.len(), 4);
    let own = [modest.request().unwrap(), modest.request().unwrap()];
    assert!(modest.request().is_none());
    drop((held, own));
    assert!(greedy.request().is_some());
}

#[test]
fn deadlines_end_the_silent_the_idle_and_the_stalled() {
    let connections = Connections::new(limits());
    let (silent, idle) = (admit(&connections, 1).unwrap(), admit(&connections, 2).unwrap());
    let stalled = admit(&connections, 3).unwrap();
    drop(idle.request());
    let _request = stalled.request().unwrap();
    stalled.note_blocked();
    connections.sweep();
    assert!(!is_closed(&silent) && !is_closed(&stalled));
    std::thread::sleep(Duration::from_millis(150));
    connections.sweep();
    assert!(is_closed(&silent) && is_closed(&stalled));
    // It may end by itself first.
    assert!(!is_closed(&idle));
}

#[test]
fn a_response_that_leaves_byte_by_byte_makes_no_progress() {
    let connections = Connections::new(limits());
    let (drip, steady) = (admit(&connections, 1).unwrap(), admit(&connections, 2).unwrap());
    let _requests = (drip.request().unwrap(), steady.request().unwrap());
    drip.note_blocked();
    steady.note_blocked();
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(20));
        drip.note_written(100);
        drip.note_blocked();
        steady.note_written(64 * 1024);
        steady.note_blocked();
    }
    connections.sweep();
    assert!(is_closed(&drip) && !is_closed(&steady));
}

#[test]
fn a_stream_that_stands_still_is_ended_alone() {
    let connections = Connections::new(limits());
    let place = admit(&connections, 1).unwrap();
    let request = place.request().unwrap();
    let ending = place.ending(Some(CancellationToken::new()));
    let response = request.open_response(ending.clone());
    response.note_handed();
    std::thread::sleep(Duration::from_millis(150));
    connections.sweep();
    assert!(ending.stream.as_ref().unwrap().is_cancelled() && !is_closed(&place));
    // What has left its stream and still holds memory goes with its connection.
    ending.end();
    assert!(is_closed(&place));
}

fn ending(client: u64) -> Ending {
    Ending { client, stream: None, close: CancellationToken::new() }
}

#[tokio::test]
async fn places_go_round_among_connections() {
    let places = ResponsePlaces::new("test", "is full", 1, Duration::from_secs(5));
    let first = places.enter(ending(1)).await.unwrap();
    let wait = |connection| {
        let places = places.clone();
        tokio::spawn(async move { places.enter(ending(connection)).await })
    };
    let greedy = [wait(1), wait(1), wait(1)];
    tokio::task::yield_now().await;
    let modest = wait(2);
    tokio::task::yield_now().await;
    drop(first);
    let [one, two, three] = greedy;
    drop(one.await.unwrap().unwrap());
    // The second of one connection comes after the first of another.
    drop(modest.await.unwrap().unwrap());
    drop(two.await.unwrap().unwrap());
    drop(three.await.unwrap().unwrap());
}

#[tokio::test]
async fn a_place_that_nobody_takes_is_given_to_the_next() {
    let places = ResponsePlaces::new("test", "is full", 1, Duration::from_millis(200));
    let first = places.enter(ending(1)).await.unwrap();
    let gone = tokio::spawn({
        let places = places.clone();
        async move { places.enter(ending(2)).await }
    });
    tokio::task::yield_now().await;
    gone.abort();
    let refused = places.enter(ending(3)).await;
    assert!(refused.unwrap_err().to_string().contains("is full"));
    drop(first);
    assert!(places.enter(ending(4)).await.is_ok());
}

#[tokio::test]
async fn no_client_has_more_than_a_quarter() {
    let places = ResponsePlaces::new("test", "is full", 8, Duration::from_millis(200));
    let own = [places.enter(ending(1)).await.unwrap(), places.enter(ending(1)).await.unwrap()];
    assert!(places.enter(ending(1)).await.is_err());
    let other = places.enter(ending(2)).await.unwrap();
    let waiting = tokio::spawn({
        let places = places.clone();
        async move { places.enter(ending(1)).await }
    });
    tokio::task::yield_now().await;
    drop(other);
    drop(own);
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn without_need_nobody_is_ended() {
    let places = ResponsePlaces::new("test", "is full", 2, Duration::from_millis(200));
    let end = ending(1);
    let held = places.enter(end.clone()).await.unwrap();
    held.note_held(1 << 20);
    held.note_handed(1000);
    std::thread::sleep(Duration::from_millis(20));
    places.sweep();
    assert!(!end.close.is_cancelled());
}
