//! Fault injection: the n-th call of a class fails.
//!
//! Guarantees: only calls on files below the recorded directory count; the same specification and
//! the same calls fail the same one.

use std::str::FromStr;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Changes bytes or a length: write, pwrite, writev, pwritev, ftruncate, truncate, fallocate.
    Write = 1,
    /// fsync, fdatasync, sync_file_range, syncfs, sync.
    Sync = 2,
    /// open, openat, creat, mkdir.
    Open = 3,
    /// rename, link, unlink, rmdir: counted by `any` only.
    Name = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The call does nothing and returns this errno.
    Errno(i32),
    /// A write takes half of its bytes; other calls succeed.
    Short,
}

/// `<op>:<n>:<errno>[:sticky]`, n from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `None`: any.
    class: Option<Class>,
    nth: u64,
    effect: Effect,
    sticky: bool,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let wrong = || {
            "fault: expected write|sync|open|any : n : ENOSPC|EIO|EMFILE|short [: sticky]"
                .to_owned()
        };
        let mut parts = text.split(':');
        let class = match parts.next() {
            Some("write") => Some(Class::Write),
            Some("sync") => Some(Class::Sync),
            Some("open") => Some(Class::Open),
            Some("any") => None,
            _ => return Err(wrong()),
        };
        let nth = parts.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
        let effect = match parts.next() {
            Some("ENOSPC") => Effect::Errno(libc::ENOSPC),
            Some("EIO") => Effect::Errno(libc::EIO),
            Some("EMFILE") => Effect::Errno(libc::EMFILE),
            Some("short") => Effect::Short,
            _ => return Err(wrong()),
        };
        let sticky = match parts.next() {
            None => false,
            Some("sticky") => true,
            Some(_) => return Err(wrong()),
        };
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Fault { class, nth: nth.ok_or_else(wrong)?, effect, sticky })
    }
}

/// A fault and how many calls it has counted.
#[derive(Clone, Debug)]
pub struct Injector {
    fault: Fault,
    seen: u64,
}

impl Injector {
    pub fn new(fault: Fault) -> Injector {
        Injector { fault, seen: 0 }
    }

    /// Counts one call; `Some` if it is to fail, with its number.
    pub fn count(&mut self, class: Class) -> Option<(Effect, u64)> {
        if self.fault.class.is_some_and(|wanted| wanted != class) {
            return None;
        }
        self.seen += 1;
        let due = self.seen == self.fault.nth || (self.fault.sticky && self.seen > self.fault.nth);
        let applies = class == Class::Write || self.fault.effect != Effect::Short;
        (due && applies).then_some((self.fault.effect, self.seen))
    }
}

/// How many of `len` bytes a short write takes. Direct writes stay aligned.
pub fn shortened(len: usize, direct: bool) -> usize {
    let half = len / 2;
    match (direct, half) {
        (false, _) => half.max(1).min(len),
        (true, 4096..) => half - half % 4096,
        (true, 512..) => half - half % 512,
        (true, _) => len,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(text: &str, calls: &[Class]) -> Vec<u64> {
        let mut injector = Injector::new(text.parse().unwrap());
        calls.iter().filter_map(|class| injector.count(*class)).map(|(_, n)| n).collect()
    }

    #[test]
    fn the_nth_call_of_the_class_fails_once_or_from_then_on() {
        use Class::{Name, Open, Sync, Write};
        let calls = [Write, Sync, Write, Open, Write, Name, Write];
        assert_eq!(fired("write:2:EIO", &calls), [2]);
        assert_eq!(fired("write:2:EIO:sticky", &calls), [2, 3, 4]);
        assert_eq!(fired("sync:1:EIO", &calls), [1]);
        assert_eq!(fired("open:2:EMFILE", &calls), []);
        assert_eq!(fired("any:6:ENOSPC", &calls), [6]);
        assert_eq!(fired("any:1:short:sticky", &calls), [1, 3, 5, 7]);
    }

    #[test]
    fn a_wrong_specification_is_refused() {
        for text in [
            "",
            "write",
            "write:0:EIO",
            "read:1:EIO",
            "write:1:EPERM",
            "write:1:EIO:x",
            "write:1:EIO:sticky:x",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    #[test]
    fn short_writes_stay_aligned_for_direct_handles() {
        assert_eq!([1, 2, 9].map(|n| shortened(n, false)), [1, 1, 4]);
        assert_eq!([512, 1024, 12288, 16384].map(|n| shortened(n, true)), [512, 512, 4096, 8192]);
    }
}
