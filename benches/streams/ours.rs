//! What `benches/streams.py` measures, in ours: started with what to do (`count` words, or a windowed `sum`), the guarantee, a folder for the
//! state, and the broker's address. `Bench.java` is the same in Kafka Streams.

use plainlog::streams::{Options, Topology, Tumbling};
use std::{env, time::Duration};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [what, guarantee, state_dir, address] = &arguments[..] else {
        return Err("count or sum, exactly_once_v2 or at_least_once, a folder, and an address".into());
    };
    let topology = Topology::new(&format!("ours-{what}"));
    match &**what {
        "count" => {
            let words = topology.stream("lines");
            let words = words.flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
            words.group_by(|_, word: &String| word.clone()).count("counts").to("count-out");
        }
        _ => topology
            .stream_of::<String, i64>("numbers")
            .group_by_key()
            .window(Tumbling::of(Duration::from_secs(10)))
            .reduce("sums", |a, b| a + b)
            .to("sum-out"),
    }
    let options = if guarantee == "at_least_once" { Options::at_least_once() } else { Options::default() };
    let app = topology.start(address, Options { state_dir: state_dir.into(), ..options })?;
    ctrlc::set_handler(app.stopper())?;
    Ok(app.wait()?)
}
