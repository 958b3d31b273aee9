//! How many lines of the log a peer can cause.
//!
//! Guarantees: at most [`LINES`] in each [`WINDOW`]; how many were kept back is said with the first line of the next.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const LINES: u64 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// Counts lines of one kind.
#[derive(Debug, Default)]
pub struct Lines(Mutex<(Option<Instant>, u64)>);

impl Lines {
    /// Whether a line may be written now; with it, how many were kept back before.
    pub fn next(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = *state;
        if since.is_none_or(|since| now.saturating_duration_since(since) > WINDOW) {
            *state = (Some(now), 1);
            return Some(count.saturating_sub(LINES));
        }
        state.1 = count.saturating_add(1);
        (state.1 <= LINES).then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_has_few_lines_and_the_next_one_says_how_many_there_were() {
        let (lines, start) = (Lines::default(), Instant::now());
        let told = (0..1_000).filter(|_| lines.next(start).is_some()).count();
        assert_eq!(told as u64, LINES);
        let later = start + WINDOW + Duration::from_millis(1);
        assert_eq!(lines.next(later), Some(1_000 - LINES));
        assert_eq!(lines.next(later), Some(0));
    }
}
