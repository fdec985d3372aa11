//! The sessions of a click stream: clicks of one user that follow within half an hour are one session, which is told once it is over.
//!
//! `cargo run --example click_sessions`

use plainlog::{
    Broker, Consumer, Producer, Record,
    streams::{Options, Sessions, Topology},
};
use std::time::Duration;

const MINUTE: i64 = 60_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topology = Topology::new("click-sessions");
    topology
        .stream("clicks")
        .group_by_key()
        .sessions(Sessions::of(Duration::from_secs(1800)).grace(Duration::from_secs(900)))
        .reduce("pages", |so_far, page| format!("{so_far} {page}"))
        .until_closed("open-sessions")
        .to("sessions");

    let broker = Broker::in_memory();
    let mut producer = Producer::embedded(&broker);
    // The third click joins the first two, though it comes late.
    let clicks = [
        ("ann", "home", 0),
        ("ann", "cart", 40),
        ("ann", "tea", 20),
        ("bob", "home", 50),
        ("ann", "home", 200),
        ("bob", "help", 600),
    ];
    for (user, page, minute) in clicks {
        producer.send("clicks", Record::new(page).key(user).timestamp(minute * MINUTE))?;
    }

    let app = topology.start_embedded(&broker, Options::default())?;
    let mut sessions = Consumer::embedded(&broker).subscribe(&["sessions"])?;
    let mut left = 3;
    while left > 0 {
        for session in sessions.poll(Duration::from_secs(1), 10)? {
            let text = |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
            println!("{}: {}", text(session.key), text(session.value));
            left -= 1;
        }
    }
    Ok(app.stop()?)
}
