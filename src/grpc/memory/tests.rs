use std::{pin::pin, task::Poll};

use super::*;

const MIB: usize = 1 << 20;

/// Polls once; the permit where it was granted.
async fn at_once<T>(taking: impl Future<Output = Result<T, TooManyWait>>) -> Option<T> {
    let mut taking = pin!(taking);
    std::future::poll_fn(|context| match taking.as_mut().poll(context) {
        Poll::Ready(permit) => Poll::Ready(permit.ok()),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn memory() -> Arc<Memory> {
    Memory::new(64 * MIB, 8)
}

#[tokio::test]
async fn small_bodies_get_through_while_large_ones_wait() {
    let (memory, nobody) = (memory(), Owner::default());
    let mut held = Vec::new();
    while let Some(permit) = at_once(memory.body(nobody, 4 * MIB)).await {
        held.push(permit);
    }
    assert_eq!(held.len(), 6, "three eighths of 64 MiB");
    assert!(at_once(memory.body(nobody, SMALL_BYTES_MAX)).await.is_some());
    drop(held.pop());
    assert!(at_once(memory.body(nobody, 4 * MIB)).await.is_some());
}

#[tokio::test]
async fn one_message_fits_an_empty_pool_however_large() {
    let (memory, nobody) = (Memory::new(MIB, 8), Owner::default());
    let huge = at_once(memory.body(nobody, 4 * MIB)).await;
    assert!(huge.is_some());
    assert!(at_once(memory.body(nobody, 2 * SMALL_BYTES_MAX)).await.is_none());
    drop(huge);
    assert_eq!(memory.taken(), (0, 0));
    assert!(at_once(memory.body(nobody, 2 * SMALL_BYTES_MAX)).await.is_some());
}

#[tokio::test]
async fn a_stream_holds_what_is_free_and_a_connection_three_times_that() {
    let memory = memory();
    let connection = Some(1);
    let stream = memory.stream(connection);
    let mut held = Vec::new();
    while let Some(permit) = at_once(memory.body(stream, 2 * MIB)).await {
        held.push(permit);
    }
    assert_eq!(held.len(), 6, "half of 24 MiB");
    let other = memory.stream(connection);
    while let Some(permit) = at_once(memory.body(other, 2 * MIB)).await {
        held.push(permit);
    }
    assert_eq!(held.len(), 9, "three quarters for the connection");
    let elsewhere = memory.stream(Some(2));
    assert!(at_once(memory.body(elsewhere, 2 * MIB)).await.is_some());
    held.clear();
    assert_eq!(memory.taken(), (0, 0));
}

#[tokio::test]
async fn who_waits_is_served_in_order_and_who_is_not_fair_is_passed_by() {
    let (memory, nobody) = (memory(), Owner::default());
    let stream = memory.stream(None);
    let mut held = Vec::new();
    while let Some(permit) = at_once(memory.body(stream, 4 * MIB)).await {
        held.push(permit);
    }
    assert_eq!(held.len(), 3);
    let greedy = tokio::spawn({
        let memory = Arc::clone(&memory);
        async move { memory.body(stream, 4 * MIB).await.unwrap() }
    });
    while memory.taken().1 == 0 {
        tokio::task::yield_now().await;
    }
    let modest = at_once(memory.body(nobody, 4 * MIB)).await;
    assert!(modest.is_some(), "the stream's own part keeps nobody else waiting");
    drop((modest, held.pop()));
    drop(greedy.await.unwrap());
    drop(held);
    assert_eq!(memory.taken(), (0, 0));
}

#[tokio::test]
async fn who_leaves_the_line_leaves_nothing_behind() {
    let (memory, nobody) = (Memory::new(8 * MIB, 2), Owner::default());
    let all = at_once(memory.built(nobody, 2 * MIB)).await.unwrap();
    assert!(at_once(memory.built(nobody, 1)).await.is_none());
    assert_eq!(memory.taken().1, 0, "a dropped wait is no wait");
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let memory = Arc::clone(&memory);
            tokio::spawn(async move { memory.built(Owner::default(), 1).await.map(drop) })
        })
        .collect();
    while memory.taken().1 < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(memory.built(nobody, 1).await.err(), Some(TooManyWait));
    drop(all);
    for waiter in waiting {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!(memory.taken(), (0, 0));
}

#[tokio::test]
async fn what_is_not_needed_is_given_back() {
    let memory = memory();
    let owner = memory.stream(None);
    let mut permit = at_once(memory.unpacked(owner, 4 * MIB)).await.unwrap();
    permit.shrink_to(MIB);
    permit.shrink_to(2 * MIB);
    assert_eq!(memory.taken(), (MIB, 0));
    drop(permit);
    assert_eq!(memory.taken(), (0, 0));
}

#[tokio::test]
async fn bodies_that_do_not_become_whole_give_way_to_a_connection_that_has_none() {
    let memory = memory();
    let mut held = Vec::new();
    for connection in 0..200 {
        let owner = Owner::of_call(Some(connection));
        while let Some(body) = at_once(memory.body(owner, SMALL_BYTES_MAX)).await {
            held.push(body);
        }
    }
    let begun = tokio::time::Instant::now();
    let mut newcomer = Box::pin(memory.body(Owner::of_call(Some(1_000)), SMALL_BYTES_MAX));
    assert!(at_once(newcomer.as_mut()).await.is_none(), "there is no room");
    let (permits, mut give_way): (Vec<_>, Vec<_>) = held.into_iter().unzip();
    let mut permits: Vec<_> = permits.into_iter().map(Some).collect();
    let asked = async {
        let asked = give_way.iter_mut().map(|gives_way| Box::pin(gives_way.asked()));
        futures_util::future::select_all(asked).await.1
    };
    let place = tokio::select! {
        place = asked => place,
        _ = newcomer.as_mut() => unreachable!("there is no room"),
    };
    assert!(begun.elapsed() >= unfinished::GIVES_WAY_AFTER, "they had their time");
    permits[place] = None;
    assert!(newcomer.await.is_ok());
}

#[tokio::test]
async fn a_full_line_has_a_place_for_a_connection_that_waits_for_none() {
    let (memory, rude) = (memory(), Owner::of_call(Some(1)));
    let _all = memory.body(rude, 24 * MIB).await.unwrap();
    let mut line: Vec<_> = (0..8).map(|_| Box::pin(memory.body(rude, 4 * MIB))).collect();
    for waiter in &mut line {
        assert!(at_once(waiter.as_mut()).await.is_none());
    }
    assert_eq!(memory.body(rude, 4 * MIB).await.err(), Some(TooManyWait));
    let mut good = Box::pin(memory.body(Owner::of_call(Some(2)), 4 * MIB));
    assert!(at_once(good.as_mut()).await.is_none(), "it waits");
    let displaced = line.pop().unwrap();
    assert_eq!(displaced.await.err(), Some(TooManyWait), "the last of the rude one's places");
    assert_eq!(memory.taken().1, 8);
}
