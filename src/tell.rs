//! Messages to the operator, on stderr. If stderr is closed they are dropped: that is no reason to fail.

use std::{
    fmt::Display,
    io::{self, Write},
    sync::Mutex,
    time::{Duration, Instant},
};

/// Says one line.
pub(crate) fn tell(line: impl Display) {
    // If the operator does not listen, there is nobody else to tell.
    drop(writeln!(io::stderr(), "{line}"));
}

/// Says one line that anybody can cause who connects, if there were not too many of these: nobody is to fill the operator's disk.
pub(crate) fn tell_of_client(line: impl Display) {
    static SO_FAR: Mutex<SoFar> = Mutex::new(SoFar { second: None, said: 0, left_out: 0 });
    let left_out = SO_FAR.lock().expect("no panic while lines are counted").one_more(Instant::now());
    match left_out {
        None => {}
        Some(0) => tell(line),
        Some(count) => tell(format_args!("{count} more lines about clients were left out\n{line}")),
    }
}

/// How many lines clients can cause in a second.
const OF_CLIENTS_MAX: u64 = 20;

/// How many lines clients have caused.
#[derive(Debug)]
struct SoFar {
    /// When the second began that is counted.
    second: Option<Instant>,
    said: u64,
    left_out: u64,
}

impl SoFar {
    /// Whether one more is said; if so, how many were not since the last one that was.
    fn one_more(&mut self, now: Instant) -> Option<u64> {
        if self.second.is_none_or(|second| now.saturating_duration_since(second) >= Duration::from_secs(1)) {
            (self.second, self.said) = (Some(now), 0);
        }
        if self.said == OF_CLIENTS_MAX {
            self.left_out += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_cause_so_many_lines_a_second_and_the_others_are_counted() {
        let (mut so_far, begun) = (SoFar { second: None, said: 0, left_out: 0 }, Instant::now());
        let mut said = |count: u64, after_ms| -> Vec<u64> {
            let now = begun + Duration::from_millis(after_ms);
            (0..count).filter_map(|_| so_far.one_more(now)).collect()
        };
        assert_eq!(said(3, 0), [0; 3]);
        assert_eq!(said(100, 999).len() as u64, OF_CLIENTS_MAX - 3);
        let later = said(100, 1000);
        assert_eq!((later.len() as u64, later[0], later[1]), (OF_CLIENTS_MAX, 83, 0));
        assert_eq!(said(1, 2000), [80]);
    }
}
