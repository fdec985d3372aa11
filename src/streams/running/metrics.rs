//! What an application tells about itself to a monitoring system.

use super::{App, Totals};
use crate::streams::{context::Counts, error::Error};
use std::fmt::Write;

impl App {
    /// The application's figures in Prometheus's text format (0.0.4), for the `/metrics` of the program that it is part of:
    ///
    /// | metric | |
    /// | --- | --- |
    /// | `plainlog_streams_records_total` | records by what became of them: `processed`, `late`, `skipped`, `failed`, `sent`, `restored` |
    /// | `plainlog_streams_commits_total`, `plainlog_streams_commit_seconds_total` | how often results took effect, and how long that took |
    /// | `plainlog_streams_tasks` | the tasks of this process whose state is restored |
    /// | `plainlog_streams_state_bytes` | the files of their state; 0 in memory |
    /// | `plainlog_streams_lag_records` | by topic and partition: what the application, in all its processes, has not processed |
    ///
    /// The lag is asked of the broker, and left out where it does not answer.
    pub fn metrics(&self) -> String {
        let name = &self.shared.plan.application;
        let Totals { counts, restored, commits, committing } = self.totals();
        let Counts { processed, late, skipped, failed, sent } = counts;
        let kinds = [
            ("processed", processed),
            ("late", late),
            ("skipped", skipped),
            ("failed", failed),
            ("sent", sent),
            ("restored", restored),
        ];
        let mut out = String::new();
        let mut family = |metric: &str, kind: &str, help: &str, samples: &[(String, String)]| {
            // Writing to a string cannot fail.
            _ = writeln!(out, "# HELP plainlog_streams_{metric} {help}\n# TYPE plainlog_streams_{metric} {kind}");
            for (labels, value) in samples {
                _ = writeln!(out, "plainlog_streams_{metric}{{application=\"{name}\"{labels}}} {value}");
            }
        };
        let kinds = kinds.map(|(kind, count)| (format!(",kind=\"{kind}\""), count.to_string()));
        family("records_total", "counter", "Records, by what became of them.", &kinds);
        let one = |value: String| [(String::new(), value)];
        family("commits_total", "counter", "How often results took effect.", &one(commits.to_string()));
        let seconds = committing.as_secs_f64().to_string();
        family("commit_seconds_total", "counter", "How long that took.", &one(seconds));
        let states = self.shared.states.sizes();
        family("tasks", "gauge", "Tasks of this process whose state is restored.", &one(states.tasks.to_string()));
        family("state_bytes", "gauge", "The files of their state.", &one(states.bytes.to_string()));
        let lags: Vec<(String, String)> = self.lags().unwrap_or_default();
        family("lag_records", "gauge", "What the application has not processed.", &lags);
        out
    }

    fn lags(&self) -> Result<Vec<(String, String)>, Error> {
        let committed = self.shared.site.committed(&self.shared.plan.application)?;
        let lag = committed.into_iter().filter_map(|(topic, partition, at)| {
            Some((format!(",topic=\"{topic}\",partition=\"{partition}\""), at.lag?.to_string()))
        });
        Ok(lag.collect())
    }
}
