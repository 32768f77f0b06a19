use std::time::Duration;

use futures_util::poll;

use super::*;

const MIB: u64 = 1 << 20;

/// 24 MiB, of which one hold has 8.
fn pool() -> Pool {
    Pool::new("test", 24 * MIB, 8 * MIB, 33)
}

fn client(subject: &str, address: &str) -> Client {
    Client::new(subject, address)
}

async fn held(pool: &Pool, client: &Client, mib: u64) -> Hold {
    let mut hold = pool.open(client);
    tokio::time::timeout(Duration::from_millis(20), hold.grow(mib * MIB)).await.expect("there is room");
    hold
}

#[tokio::test]
async fn one_without_company_has_the_whole_pool() {
    let (pool, alone) = (pool(), client("alone", "10.0.0.1"));
    let _three = [held(&pool, &alone, 8).await, held(&pool, &alone, 8).await, held(&pool, &alone, 8).await];
    assert!(pool.try_take(&alone, 1).is_none());
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

#[tokio::test]
async fn whoever_holds_and_does_not_go_on_leaves_room_for_a_body_of_others() {
    let (pool, hostile) = (pool(), client("hostile", "10.0.0.1"));
    let honest = client("honest", "10.0.0.2");
    let _company = pool.open(&client("company", "10.0.0.9"));
    // With company, it gets its share and no more.
    let _first = held(&pool, &hostile, 8).await;
    let mut second = pool.open(&hostile);
    assert!(poll!(Box::pin(second.grow(1))).is_pending());
    for _ in 0..10 {
        drop(held(&pool, &honest, 8).await);
    }
}

#[tokio::test]
async fn what_was_taken_before_company_came_is_taken_back() {
    let (pool, hostile, honest) = (pool(), client("hostile", "10.0.0.1"), client("honest", "10.0.0.2"));
    let holds = [held(&pool, &hostile, 8).await, held(&pool, &hostile, 8).await, held(&pool, &hostile, 8).await];
    let revoked = holds.each_ref().map(Hold::revoked);
    let mut mine = pool.open(&honest);
    let mut growing = Box::pin(mine.grow(8 * MIB));
    assert!(tokio::time::timeout(Duration::from_secs(3), growing.as_mut()).await.is_err());
    let is_revoked = revoked.each_ref().map(CancellationToken::is_cancelled);
    assert_eq!(is_revoked, [false, false, true]);
    let [_eldest, _second, youngest] = holds;
    drop(youngest);
    growing.await;
}

#[tokio::test]
async fn one_address_with_many_tokens_has_one_share() {
    let pool = pool();
    let honest = client("honest", "10.0.0.2");
    let _company = pool.open(&client("company", "10.0.0.9"));
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
    let (pool, hostile, honest) = (pool(), client("hostile", "10.0.0.1"), client("honest", "10.0.0.2"));
    let _company = pool.open(&client("company", "10.0.0.9"));
    let _commits = [pool.take(&hostile, 4 * MIB).await, pool.take(&hostile, 4 * MIB).await];
    assert!(poll!(Box::pin(pool.take(&hostile, MIB))).is_pending());
    drop(held(&pool, &honest, 8).await);
}

#[tokio::test]
async fn a_hold_that_stops_waiting_or_ends_gives_all_back() {
    let (pool, one) = (pool(), client("one", "10.0.0.1"));
    let mut full = [held(&pool, &one, 8).await, held(&pool, &one, 8).await, held(&pool, &one, 8).await];
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
    let pool = Pool::new("test", 25 * MIB, 8 * MIB, 33);
    let (company, slow) = (client("company", "10.0.0.9"), client("slow", "10.0.0.2"));
    let (_company, _body) = (pool.open(&company), held(&pool, &slow, 6).await);
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
