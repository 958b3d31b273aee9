//! What one identity may take: connections at once, calls in a second, and the age of a connection.

use std::time::{Duration, Instant};

use lethe::server::DoorLimits;
use tonic::Code;
use tonic_types::StatusExt;

use crate::peer::{CHECK, Verdict, call, channel, in_time, knock};
use crate::stage::{Running, health, uri};

#[tokio::test]
async fn an_identity_takes_its_share_of_connections_and_leaves_the_rest_to_others() {
    let limits = DoorLimits { identity_connections: 2, ..DoorLimits::default() };
    let door = Running::start_with(limits, health()).await;
    // Two certificates of one identity share.
    let knock_as = async |name: &str| {
        let name = uri(name);
        let caller = door.caller(|p| p.subject_alt_names = vec![name]);
        knock(door.addr, &door.client(Some(caller))).await
    };
    let (first, one) = knock_as("spiffe://test/application").await;
    let (second, _two) = knock_as("spiffe://test/application").await;
    assert_eq!([first, second], [Verdict::Served, Verdict::Served]);
    assert_eq!(knock_as("spiffe://test/application").await.0, Verdict::Closed);
    let refused = &door.metrics.identity_connections_refused;
    assert_eq!((refused.value(), door.metrics.connections_refused.value()), (1, 1));
    assert_eq!(knock_as("spiffe://test/operator").await.0, Verdict::Served);
    drop(one);
    in_time(async {
        while knock_as("spiffe://test/application").await.0 != Verdict::Served {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_identity_that_calls_too_often_is_told_when_to_come_back() {
    let limits = DoorLimits { calls_per_second: 2, calls_burst: 3, ..DoorLimits::default() };
    let door = Running::start_with(limits, health()).await;
    let one = channel(door.addr, door.client(Some(door.caller(|_| {})))).await;
    let two = channel(door.addr, door.client(Some(door.caller(|_| {})))).await;
    let other = door.caller(|p| p.subject_alt_names = vec![uri("spiffe://test/operator")]);
    let other = channel(door.addr, door.client(Some(other))).await;
    let since = Instant::now();
    for channel in [&one, &two, &one] {
        assert!(call(channel, CHECK).await.is_ok());
    }
    let refused = call(&two, CHECK).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(door.metrics.calls_limited.value(), 1);
    assert!(call(&other, CHECK).await.is_ok(), "others have theirs");
    let wait = refused.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert!(wait + since.elapsed() >= Duration::from_millis(450), "{wait:?}");
    tokio::time::sleep(wait).await;
    assert!(call(&two, CHECK).await.is_ok());
}

#[tokio::test]
async fn a_connection_ends_at_its_age_and_no_call_with_it() {
    let age = Duration::from_millis(300);
    let limits = DoorLimits { age, ..DoorLimits::default() };
    let door = Running::start_with(limits, health()).await;
    let began = Instant::now();
    let live = channel(door.addr, door.client(Some(door.caller(|_| {})))).await;
    let (aged, mut calls) = (|| door.metrics.connections_aged.value(), 0);
    in_time(async {
        while aged() < 4 || calls <= 50 {
            assert_eq!(call(&live, CHECK).await.err().map(|s| s.to_string()), None);
            calls += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let each = began.elapsed() / u32::try_from(aged()).unwrap();
    assert!(
        (age..=2 * age).contains(&each),
        "{each:?} of {} connections",
        door.metrics.connections.value()
    );
}

#[tokio::test]
async fn who_stays_after_the_goodbye_is_cut_off() {
    let (age, deadline) = (Duration::from_millis(200), Duration::from_millis(300));
    let limits = DoorLimits { age, deadline, ..DoorLimits::default() };
    let door = Running::start_with(limits, health()).await;
    let since = Instant::now();
    let (verdict, tls) = knock(door.addr, &door.client(Some(door.caller(|_| {})))).await;
    assert_eq!(verdict, Verdict::Served);
    // A peer that never speaks HTTP/2 does not hear the GOAWAY either.
    let mut tls = tls.unwrap();
    let mut rest = Vec::new();
    let _ = in_time(tokio::io::AsyncReadExt::read_to_end(&mut tls, &mut rest)).await;
    let took = since.elapsed();
    assert!((age..10 * (age + deadline)).contains(&took), "{took:?}");
}
