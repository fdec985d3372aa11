//! Compaction of a log of many keys: how fast, and in how much memory.
//!
//! ```text
//! cargo bench --bench compaction                                   1 GB, a million keys: each comes about twice
//! cargo bench --bench compaction -- --mb 50 --keys 10000           a quick look
//! ```
//!
//! The log is on the disk of the build, and has just been written, so it is read from memory for the most part. The rate is
//! that of the bytes to be compacted; the time has the syncs in it. Memory is the most that the process ever held.

use anyhow::{Context, Result};
use clap::Parser;
use plainlog::log::{
    Append, Compaction, Content, Log, batches::Flags, disk::FileDisk, handles::Handles, record::Records,
};
use std::{fs, path::PathBuf, sync::Arc, time::Instant};

const NOW_MS: i64 = 1_700_000_000_000;
const SEGMENT_BYTES: u32 = 128 << 20;
const BATCH: u64 = 1000;

/// Compacts a log of many keys.
#[derive(Parser)]
#[command(name = "compaction", bin_name = "cargo bench --bench compaction --")]
struct Options {
    /// Size of the log, in MB
    #[arg(long, default_value_t = 1000)]
    mb: u64,
    /// Different keys
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes of a value
    #[arg(long, default_value_t = 460)]
    value: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if cfg!(debug_assertions) {
        eprintln!("compaction: a debug build says nothing about speed; nothing measured");
        return Ok(());
    }
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("compaction-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let measured = measure(&options, &dir);
    fs::remove_dir_all(&dir)?;
    measured
}

fn measure(options: &Options, dir: &std::path::Path) -> Result<()> {
    let handles = Arc::new(Handles::new(Arc::new(FileDisk), 1024));
    let opened = Log::open(handles, dir, 0, false, NOW_MS, &|_| Ok(()));
    let (log, _) = opened.map_err(|error| anyhow::Error::msg(error.why))?;
    let value: Vec<u8> = "the quick brown fox ".bytes().cycle().take(options.value).collect();
    let (mut number, mut bytes) = (0_u64, 0);
    while bytes < options.mb * 1_000_000 {
        let mut records = Records::default();
        for _ in 0..BATCH {
            // Another order in each round: a multiple of a number without common factors.
            let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % options.keys;
            records.push(None, Some(format!("user-{key:08}").into_bytes().into()), Some((&value[..]).into()));
            number += 1;
        }
        let append = Append {
            content: Content::Records(&records),
            now_ms: NOW_MS,
            flags: Flags::NONE,
            producer: None,
            whole: false,
            segment_bytes_max: SEGMENT_BYTES,
            segment_ms_max: i64::MAX,
            publish: true,
        };
        log.append(&append)?;
        bytes = log.bytes()?;
    }
    log.roll_if_old(i64::MAX, 0)?;
    log.sync_all()?;
    let filled = peak_memory()?;
    let settings = Compaction { segment_bytes: SEGMENT_BYTES, ..Compaction::default() };
    let (mut passes, clock) = (0, Instant::now());
    while log.compaction_due(NOW_MS, &settings)?.now {
        log.compact(NOW_MS, &settings, &|| false)?;
        passes += 1;
    }
    let seconds = clock.elapsed().as_secs_f64();
    let (before, after) = (bytes as f64 / 1e6, log.bytes()? as f64 / 1e6);
    println!(
        "{number} records of at most {} keys: {before:.0} MB became {after:.0} MB in {passes} passes",
        options.keys
    );
    println!("{seconds:.2} s, {:.0} MB/s", before / seconds);
    println!("resident at most: {} MB (before: {filled} MB)", peak_memory()?);
    Ok(())
}

/// The most memory that was resident, in MB.
fn peak_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1000)
}
