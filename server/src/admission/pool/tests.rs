use std::time::Duration;

use futures_util::poll;
use tokio::sync::oneshot;

use super::*;

const MIB: u64 = 1 << 20;

/// 25 MiB, of which one hold has 8.
fn pool() -> Pool {
    Pool::new("test", 25 * MIB, 8 * MIB, 33)
}

fn client(subject: &str, address: &str) -> Client {
    Client::new(subject, address)
}

async fn held(pool: &Pool, client: &Client, mib: u64) -> Hold {
    let mut hold = pool.open(client);
    tokio::time::timeout(Duration::from_millis(20), hold.grow(mib * MIB))
        .await
        .expect("there is room");
    hold
}

#[tokio::test]
async fn one_without_company_has_the_whole_pool() {
    let (pool, alone) = (pool(), client("alone", "10.0.0.1"));
    let _three =
        [held(&pool, &alone, 8).await, held(&pool, &alone, 8).await, held(&pool, &alone, 8).await];
    assert!(pool.try_take(&alone, 2 * MIB).is_none());
}

#[tokio::test]
async fn bodies_that_arrive_at_once_never_wait_for_each_other() {
    let (pool, honest) = (pool(), client("honest", "10.0.0.1"));
    // Twelve bodies of 8 MiB grow by turns: together they want four times what there is.
    let bodies = (0..12).map(|_| {
        let (pool, honest) = (pool.clone(), honest.clone());
        async move {
            let mut hold = pool.open(&honest);
            for step in 1..=128 {
                hold.grow(step * 64 * 1024).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let done = futures_util::future::join_all(bodies);
    tokio::time::timeout(Duration::from_mins(1), done).await.expect("all of them end");
}

/// Somebody who holds a little, is idle, and came first.
async fn company(pool: &Pool) -> Hold {
    let mut hold = pool.open(&client("company", "10.0.0.9"));
    hold.grow(64 * 1024).await;
    hold
}

#[tokio::test]
async fn whoever_holds_and_does_not_go_on_leaves_room_for_a_body_of_others() {
    for honest_address in ["10.0.0.1", "10.0.0.2"] {
        let (pool, hostile) = (pool(), client("hostile", "10.0.0.1"));
        let honest = client("honest", honest_address);
        let _company = company(&pool).await;
        // With company, it gets its share and no more.
        let _first = held(&pool, &hostile, 8).await;
        let mut second = pool.open(&hostile);
        assert!(poll!(Box::pin(second.grow(MIB))).is_pending());
        for _ in 0..10 {
            drop(held(&pool, &honest, 8).await);
        }
    }
}

#[tokio::test]
async fn what_was_taken_before_company_came_is_taken_back() {
    let (pool, hostile, honest) =
        (pool(), client("hostile", "10.0.0.1"), client("honest", "10.0.0.2"));
    let holds = [
        held(&pool, &hostile, 8).await,
        held(&pool, &hostile, 8).await,
        held(&pool, &hostile, 8).await,
    ];
    let revoked = holds.each_ref().map(Hold::revoked);
    let mut mine = pool.open(&honest);
    let mut growing = Box::pin(mine.grow(8 * MIB));
    assert!(tokio::time::timeout(Duration::from_secs(3), growing.as_mut()).await.is_err());
    // One of them, and not the one that may have what it wants.
    let revoked: Vec<bool> = revoked.iter().map(CancellationToken::is_cancelled).collect();
    assert_eq!(revoked, [false, true, false]);
    let [_eldest, second, _last] = holds;
    drop(second);
    growing.await;
}

#[tokio::test]
async fn one_address_with_many_tokens_has_one_share() {
    let pool = pool();
    let honest = client("honest", "10.0.0.2");
    let _company = company(&pool).await;
    let mut holds = Vec::new();
    for number in 0..20 {
        let mut hold = pool.open(&client(&format!("token {number}"), "10.0.0.1"));
        let _ = tokio::time::timeout(Duration::from_millis(20), hold.grow(8 * MIB)).await;
        holds.push(hold);
    }
    drop(held(&pool, &honest, 8).await);
}

#[tokio::test]
async fn what_is_settled_counts_against_the_share() {
    let (pool, hostile, honest) =
        (pool(), client("hostile", "10.0.0.1"), client("honest", "10.0.0.2"));
    let _company = company(&pool).await;
    let _commits = [pool.take(&hostile, 4 * MIB).await, pool.take(&hostile, 4 * MIB).await];
    assert!(poll!(Box::pin(pool.take(&hostile, MIB))).is_pending());
    drop(held(&pool, &client("neighbor", "10.0.0.1"), 8).await);
    drop(held(&pool, &honest, 8).await);
}

#[tokio::test]
async fn a_hold_that_stops_waiting_or_ends_gives_all_back() {
    let (pool, one) = (pool(), client("one", "10.0.0.1"));
    let mut full =
        [held(&pool, &one, 8).await, held(&pool, &one, 8).await, held(&pool, &one, 8).await];
    let mut waiting = pool.open(&one);
    let refused = waiting.grow_within(8 * MIB, Duration::from_millis(50)).await;
    assert!(matches!(refused, Err(Refusal { reason, .. }) if reason.contains("memory")));
    full[1].shrink(MIB);
    drop(waiting);
    drop(full);
    assert!(pool.try_take(&one, 8 * MIB).is_some());
    assert_eq!(pool.inside.lock().held_bytes(), 0);
}

#[tokio::test]
async fn a_small_request_goes_on_beside_a_slow_body_of_the_same_client() {
    let (pool, slow) = (pool(), client("slow", "10.0.0.2"));
    let (_company, _body) = (company(&pool).await, held(&pool, &slow, 6).await);
    assert!(pool.try_take(&slow, 300 * 1024).is_some());
    assert!(pool.try_take(&slow, MIB).is_none());
}

#[test]
fn an_address_of_ipv6_counts_with_its_network() {
    let address = |text| client("", text).address;
    assert_eq!(address("2001:db8:1:2:3::4"), address("2001:db8:1:2::ffff"));
    assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
    assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
    assert_eq!(&*address("unknown"), "unknown");
}

/// A body of the test below.
struct Body {
    age: Age,
    /// Steps that it has.
    has: u64,
    waits: Option<oneshot::Receiver<()>>,
    revoked: CancellationToken,
}

impl Body {
    /// Takes in what it was granted; whether it still waits.
    fn waits(&mut self) -> bool {
        if self.waits.as_mut().is_some_and(|told| told.try_recv().is_ok()) {
            (self.has, self.waits) = (self.has + 1, None);
        }
        self.waits.is_some()
    }
}

/// Bodies of several clients open, grow step by step and end, in turns that follow from a seed.
#[test]
fn in_no_order_of_events_do_all_of_them_wait() {
    for seed in 1..400_u64 {
        let mut state = seed;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let bounds = Bounds { total: 25, largest: 8, share: 8, slack: 0 };
        let mut shares = Shares::new(bounds);
        let clients: Vec<Client> = (0..4)
            .map(|number| client(&format!("s{number}"), &format!("10.0.0.{}", number / 2)))
            .collect();
        let mut bodies: Vec<Body> = Vec::new();
        for _ in 0..300 {
            if bodies.is_empty() || (bodies.len() < 12 && random(3) == 0) {
                let (age, revoked) = shares.open(&clients[random(4)]);
                bodies.push(Body { age, has: 0, waits: None, revoked });
            }
            let index = random(bodies.len());
            let body = &mut bodies[index];
            if !body.waits() {
                if body.has == bounds.largest {
                    shares.settle(body.age);
                    shares.close(body.age);
                    bodies.swap_remove(index);
                } else {
                    body.waits = shares.ask(body.age, body.has + 1);
                    body.has += u64::from(body.waits.is_none());
                }
            }
            assert!(shares.held_bytes() <= bounds.total);
            // Somebody can go on, or is to give back what it has beyond what it may.
            let waiting = bodies.iter_mut().map(Body::waits).filter(|waits| *waits).count();
            if waiting > 0 && waiting == bodies.len() {
                let ages: Vec<Age> = bodies.iter().map(|body| body.age).collect();
                assert!(ages.iter().any(|age| shares.revoke_for(*age)), "seed {seed}: {shares:?}");
                bodies
                    .iter()
                    .filter(|body| body.revoked.is_cancelled())
                    .for_each(|body| shares.close(body.age));
                bodies.retain(|body| !body.revoked.is_cancelled());
            }
        }
    }
}
