//! TLS for life: new certificates, authorities and revocation lists while callers call, and what becomes of those who
//! were let in under the old.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lethe::clock::UnixMillis;
use lethe::pki::Ca;
use lethe::server::DoorLimits;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::Code;
use tonic::transport::Channel;

use crate::peer::{CHECK, Caller, PATIENCE, Verdict, call, channel, in_time, knock};
use crate::stage::{DAY, NOW, Running, crl, health, issuer_in, valid};

/// What the server shows to a new caller.
async fn shown(door: &Running) -> Vec<u8> {
    let (verdict, tls) = knock(door.addr, &door.client(Some(door.caller(|_| {})))).await;
    assert_eq!(verdict, Verdict::Served);
    tls.unwrap().get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn again(caller: &Caller) -> Caller {
    Caller(caller.0.clone(), caller.1.clone_key())
}

/// An authority beside the door's own, with files of its own.
fn second_authority() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    Ca::new("second", UnixMillis(NOW * 1000)).unwrap().write(dir.path()).unwrap();
    dir
}

fn bundle(door: &Running, other: &tempfile::TempDir) -> String {
    door.file("ca.pem") + &std::fs::read_to_string(other.path().join("ca.pem")).unwrap()
}

async fn code(channel: &Channel) -> Code {
    call(channel, CHECK).await.err().map_or(Code::Ok, |status| status.code())
}

async fn until(mut done: impl AsyncFnMut() -> bool) {
    in_time(async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn each_file_is_taken_anew_alone_and_all_together() {
    let door = Running::start_listed().await;
    let other = second_authority();
    let stranger = door.caller_of(&issuer_in(other.path()), |_| {});
    let known = door.caller(|_| {});
    let live = channel(door.addr, door.client(Some(again(&known)))).await;

    let before = shown(&door).await;
    let (cert, key) = door.server_pair(NOW - DAY, NOW + 90 * DAY);
    door.put("server.key", &key);
    door.put("server.pem", &cert);
    assert!(door.reloads().await, "certificate and key");
    let after = shown(&door).await;
    assert_ne!(after, before);

    door.revoke(2, &[&known.0]);
    assert!(door.reloads().await, "the list");
    assert_ne!(door.verdict_on(Some(again(&known))).await, Verdict::Served);
    door.revoke(3, &[]);
    assert!(door.reloads().await, "a list that takes it back");
    assert_eq!(door.verdict_on(Some(again(&known))).await, Verdict::Served);

    assert_ne!(door.verdict_on(Some(again(&stranger))).await, Verdict::Served);
    door.put("both.pem", &bundle(&door, &other));
    let lists = door.file("crl.pem") + &crl(&issuer_in(other.path()), 1, &[], NOW + DAY);
    let (cert, key) = door.server_pair(NOW - DAY, NOW + 80 * DAY);
    let all = [("ca.pem", door.file("both.pem")), ("crl.pem", lists)];
    for (name, text) in all.into_iter().chain([("server.key", key), ("server.pem", cert)]) {
        door.put(name, &text);
    }
    assert!(door.reloads().await, "all of them");
    let client = |caller| door.client(Some(caller));
    assert_eq!(knock(door.addr, &client(again(&stranger))).await.0, Verdict::Served);
    assert_ne!(shown(&door).await, after);
    assert_eq!(code(&live).await, Code::Ok, "who was let in and still counts notices nothing");
}

#[tokio::test]
async fn half_a_pair_changes_nothing_and_is_told_once_and_taken_when_it_is_whole() {
    let door = Running::start().await;
    let before = shown(&door).await;
    let (cert, key) = door.server_pair(NOW - DAY, NOW + 90 * DAY);
    std::fs::write(door.path("server.pem"), &cert[..cert.len() / 2]).unwrap();
    until(async || door.metrics.tls_reloads_refused.value() == 1).await;
    let notices = door.metrics.notices.list();
    assert!(notices[0].starts_with("tls.cert: holds no PEM certificate"), "{notices:?}");
    std::fs::write(door.path("server.pem"), &cert).unwrap();
    until(async || door.metrics.tls_reloads_refused.value() == 2).await;
    let notices = door.metrics.notices.list();
    assert!(notices[0].contains("KeyMismatch") && notices.len() == 1, "{notices:?}");
    assert!(notices[0].ends_with("the old files stay in force"));
    // Longer than several looks: one problem counts once.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(door.metrics.tls_reloads_refused.value(), 2);
    assert_eq!(shown(&door).await, before);

    std::fs::write(door.path("server.key"), &key).unwrap();
    until(async || shown(&door).await != before).await;
    assert_eq!(door.metrics.notices.list(), [] as [String; 0]);
    assert_eq!(door.metrics.tls_reloads.value(), 1);
}

#[tokio::test]
async fn a_set_that_does_not_fit_is_refused_and_the_old_serves_on() {
    let door = Running::start_listed().await;
    let before = shown(&door).await;
    let own = issuer_in(door.dir.path());
    let other = second_authority();
    let strange = issuer_in(other.path());
    let pair = |from, to| {
        let (cert, key) = door.server_pair(from, to);
        vec![("server.pem", cert), ("server.key", key)]
    };
    door.revoke(5, &[]);
    assert!(door.reloads().await);
    let caller = rcgen::KeyPair::generate().unwrap();
    let for_clients = crate::stage::good().signed_by(&caller, &own).unwrap().pem();
    let cut = |text: String| text[..text.len() - 40].to_owned();
    let list = |number, until| crl(&own, number, &[], until);
    let cases: Vec<(&str, Vec<(&str, String)>)> = vec![
        ("tls.cert: the certificate has expired", pair(NOW - 2 * DAY, NOW - DAY)),
        ("tls.cert: the certificate is not valid yet", pair(NOW + DAY, NOW + 2 * DAY)),
        (
            "tls.cert: the certificate is not for servers",
            vec![("server.pem", for_clients), ("server.key", caller.serialize_pem())],
        ),
        ("KeyMismatch", vec![("server.key", caller.serialize_pem())]),
        ("tls.key: holds no PEM private key", vec![("server.key", door.file("ca.pem"))]),
        ("tls.client_ca: holds no PEM certificate", vec![("ca.pem", cut(door.file("ca.pem")))]),
        ("tls.client_ca: holds no PEM certificate", vec![("ca.pem", String::new())]),
        ("tls.client_ca: holds more than 64", vec![("ca.pem", door.file("ca.pem").repeat(65))]),
        ("tls.crl: lacks the revocation list of", vec![("ca.pem", bundle(&door, &other))]),
        ("tls.crl: holds no PEM revocation list", vec![("crl.pem", String::new())]),
        (
            "holds no PEM revocation list that can be read",
            vec![("crl.pem", cut(list(6, NOW + DAY)))],
        ),
        ("that has lapsed", vec![("crl.pem", list(6, NOW + 1))]),
        ("older than the one in force", vec![("crl.pem", list(4, NOW + DAY))]),
        (
            "no authority in tls.client_ca has signed",
            vec![("crl.pem", list(6, NOW + DAY) + &crl(&strange, 1, &[], NOW + DAY))],
        ),
        (
            "no authority in tls.client_ca has signed",
            vec![("crl.pem", crl(&crate::stage::authority_named("authority"), 9, &[], NOW + DAY))],
        ),
    ];
    for (problem, files) in cases {
        if problem == "that has lapsed" {
            door.clock.set(UnixMillis((NOW + 1) * 1000));
        }
        let old: Vec<_> = files.iter().map(|(name, _)| (*name, door.file(name))).collect();
        files.iter().for_each(|(name, text)| door.put(name, text));
        assert!(!door.reloads().await, "{problem}");
        let notices = door.metrics.notices.list();
        assert!(notices.iter().any(|n| n.contains(problem)), "{problem}: {notices:?}");
        old.iter().for_each(|(name, text)| door.put(name, text));
        assert_eq!(shown(&door).await, before, "{problem}");
        assert!(door.reloads().await, "the old ones put back, after: {problem}");
    }
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o604);
    std::fs::set_permissions(door.path("server.key"), readable).unwrap();
    assert!(!door.reloads().await, "a key for everybody");
    let notices = door.metrics.notices.list();
    assert!(notices[0].starts_with("tls.key: is a private key that everybody may read"));
}

#[tokio::test]
async fn who_is_revoked_is_refused_at_the_next_call_and_at_the_next_handshake() {
    let door = Running::start_listed().await;
    let (good, bad) = (door.caller(|_| {}), door.caller(|_| {}));
    let (keeps, loses) = (
        channel(door.addr, door.client(Some(again(&good)))).await,
        channel(door.addr, door.client(Some(again(&bad)))).await,
    );
    let (_, idle) = knock(door.addr, &door.client(Some(again(&bad)))).await;
    assert_eq!((code(&keeps).await, code(&loses).await), (Code::Ok, Code::Ok));
    door.revoke(2, &[&bad.0]);
    assert!(door.reloads().await);
    let accepted = door.metrics.connections.value();
    let refused = call(&loses, CHECK).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("revoked"), "{refused}");
    assert_eq!(door.metrics.calls_unauthenticated.value(), 1);
    let revoked = Verdict::Alert(rustls::AlertDescription::CertificateRevoked);
    assert_eq!(door.verdict_on(Some(again(&bad))).await, revoked);
    // The connection is closed, and the channel finds no way to a new one.
    until(async || code(&loses).await != Code::Unauthenticated).await;
    assert_eq!(door.metrics.connections.value(), accepted);
    for _ in 0..3 {
        assert_eq!(code(&keeps).await, Code::Ok, "nobody else notices");
    }
    drop(idle);
}

#[tokio::test]
async fn who_loses_its_authority_is_refused_at_the_next_call_and_at_the_next_handshake() {
    let door = Running::start().await;
    let other = second_authority();
    let own = door.file("ca.pem");
    let client = |caller| crate::peer::client_config(own.as_bytes(), Some(caller), NOW, b"h2");
    door.put("ca.pem", &bundle(&door, &other));
    assert!(door.reloads().await);
    let guest = door.caller_of(&issuer_in(other.path()), |_| {});
    let live = channel(door.addr, client(again(&guest))).await;
    std::fs::write(door.path("own.pem"), &own).unwrap();
    let stays = {
        let issuer = rcgen::Issuer::from_ca_cert_pem(
            &own,
            rcgen::KeyPair::from_pem(&door.file("ca.key")).unwrap(),
        );
        channel(door.addr, client(door.caller_of(&issuer.unwrap(), |_| {}))).await
    };
    assert_eq!((code(&live).await, code(&stays).await), (Code::Ok, Code::Ok));
    door.put("ca.pem", &own);
    assert!(door.reloads().await);
    assert_eq!(code(&live).await, Code::Unauthenticated);
    let unknown = Verdict::Alert(rustls::AlertDescription::UnknownCA);
    assert_eq!(knock(door.addr, &client(again(&guest))).await.0, unknown);
    until(async || code(&live).await != Code::Unauthenticated).await;
    assert_eq!(code(&stays).await, Code::Ok);
}

#[tokio::test]
async fn a_list_that_lapses_shuts_the_door_until_there_is_a_new_one() {
    let door = Running::start_listed().await;
    let caller = door.caller(|p| valid(p, NOW - DAY, NOW + 90 * DAY));
    let live = channel(door.addr, door.client(Some(again(&caller)))).await;
    assert_eq!(code(&live).await, Code::Ok);
    door.clock.set(UnixMillis((NOW + 27 * DAY) * 1000));
    let notices = || door.metrics.notices.list().join("\n");
    until(async || notices().contains("tls.crl: a revocation list lapses within 72 h")).await;
    assert_eq!(code(&live).await, Code::Ok);
    door.clock.set(UnixMillis((NOW + 30 * DAY) * 1000));
    assert_eq!(code(&live).await, Code::Unauthenticated);
    assert_ne!(door.verdict_on(Some(again(&caller))).await, Verdict::Served);
    until(async || notices().contains("tls.crl: a revocation list has lapsed")).await;
    door.put("crl.pem", &crl(&issuer_in(door.dir.path()), 2, &[], NOW + 40 * DAY));
    assert!(door.reloads().await);
    assert_eq!(door.verdict_on(Some(again(&caller))).await, Verdict::Served);
}

#[tokio::test]
async fn a_directory_of_lists_behind_a_link_is_followed_and_the_newest_of_each_counts() {
    let tls = r#"crl = "lists", "#;
    let door = Running::start_as(DoorLimits::default(), health(), tls).await;
    let caller = door.caller(|_| {});
    let own = issuer_in(door.dir.path());
    let write = |folder: &str, name: &str, list: String| {
        std::fs::write(door.path(folder).join(name), list).unwrap();
    };
    std::fs::create_dir(door.path("two")).unwrap();
    write("two", "a-older.pem", crl(&own, 2, &[], NOW + DAY));
    write("two", "b-newest.pem", crl(&own, 300, &[&caller.0], NOW + DAY));
    write("two", "c-older.pem", crl(&own, 255, &[], NOW + DAY));
    write("two", ".hidden", "no list".to_owned());
    assert_eq!(door.verdict_on(Some(again(&caller))).await, Verdict::Served);
    std::os::unix::fs::symlink("two", door.path("next")).unwrap();
    std::fs::rename(door.path("next"), door.path("lists")).unwrap();
    // Nobody asks: the look of every second has to see it.
    until(async || door.verdict_on(Some(again(&caller))).await != Verdict::Served).await;
    assert_eq!(door.metrics.tls_reloads.value(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_everything_is_reloaded_again_and_again() {
    let door = Arc::new(Running::start_listed().await);
    let (calls, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for n in 0..8 {
        let (door, calls, failed) = (Arc::clone(&door), Arc::clone(&calls), Arc::clone(&failed));
        let stop = Arc::clone(&stop);
        callers.push(tokio::spawn(async move {
            let config = door.client(Some(door.caller(|_| {})));
            let mut live = channel(door.addr, config.clone()).await;
            while !stop.load(Ordering::Relaxed) {
                let made = calls.fetch_add(1, Ordering::Relaxed);
                // Some stay on one connection, some come anew each time.
                if n % 2 == 1 && made % 20 == 0 {
                    live = channel(door.addr, config.clone()).await;
                }
                if call(&live, CHECK).await.is_err() {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    let (gone, other) = (door.caller(|_| {}), second_authority());
    let (own, both) = (door.file("ca.pem"), bundle(&door, &other));
    let list =
        |of: &std::path::Path, number| crl(&issuer_in(of), number, &[&gone.0], NOW + 30 * DAY);
    for number in 2..202 {
        let (cert, key) = door.server_pair(NOW - DAY, NOW + 90 * DAY);
        let mut lists = list(door.dir.path(), number);
        // An authority comes, with its list, and goes again.
        let authorities = if number % 2 == 0 { &both } else { &own };
        if number % 2 == 0 {
            lists += &list(other.path(), number);
        }
        let taken = door.metrics.tls_reloads.value();
        for (name, text) in [
            ("server.key", &key),
            ("server.pem", &cert),
            ("ca.pem", authorities),
            ("crl.pem", &lists),
        ] {
            door.put(name, text);
        }
        // A look of the door's own may see a set that is not whole yet, which changes nothing.
        door.reload.notify_one();
        until(async || {
            let shown = shown(&door).await;
            door.metrics.tls_reloads.value() > taken
                && CertificateDer::from_pem_slice(cert.as_bytes()).unwrap().to_vec() == shown
        })
        .await;
        let before = calls.load(Ordering::Relaxed);
        until(async || calls.load(Ordering::Relaxed) >= before + 16).await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        tokio::time::timeout(PATIENCE, caller).await.unwrap().unwrap();
    }
    let (calls, failed) = (calls.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    assert_eq!(failed, 0, "of {calls} calls");
    assert!(calls > 3200, "{calls} calls are no load");
    assert!(door.metrics.tls_reloads.value() >= 200);
}
