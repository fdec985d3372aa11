//! A client that is joined byte for byte to somebody else, who speaks its protocol.
//!
//! ```text
//! client ──► connection's thread ──► node       each way has a buffer of its own, and waits
//! client ◄── a thread beside it  ◄── node       where the other end does not take what comes
//! ```
//!
//! Nothing is read or changed. What one end says last reaches the other, and its end too.

use super::{connection::SILENCE, transport::Transport};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::*},
    },
    thread,
    time::{Duration, Instant},
};

/// What is on its way in one direction.
const BUFFER_BYTES: usize = 64 << 10;

/// How far the two ends have come.
struct Joined<'a> {
    stopping: &'a AtomicBool,
    /// Neither end may be silent for longer while the other is, too.
    silence_max: Duration,
    spoke: Mutex<Instant>,
    /// The node says no more: nobody answers the client.
    is_over: AtomicBool,
}

/// Joins the two until the node says no more, or both are silent for `silence_max`. When the program stops, what is asked is answered,
/// as far as the node does so at once.
pub fn serve(transport: &Transport, node: &TcpStream, silence_max: Duration, stopping: &AtomicBool) -> io::Result<()> {
    transport.set_read_timeout(SILENCE)?;
    node.set_read_timeout(Some(SILENCE))?;
    node.set_write_timeout(Some(silence_max.max(SILENCE)))?;
    let (spoke, is_over) = (Mutex::new(Instant::now()), AtomicBool::new(false));
    let joined = Joined { stopping, silence_max, spoke, is_over };
    thread::scope(|scope| {
        let answering =
            thread::Builder::new().name("joined".into()).stack_size(256 << 10).spawn_scoped(scope, || {
                let answered = joined.copy(|into| (&*node).read(into), |bytes| transport.write_all(bytes));
                joined.is_over.store(true, Release);
                transport.shutdown(Shutdown::Write);
                // The client's next read ends, and so does this program's.
                transport.shutdown(Shutdown::Both);
                answered
            })?;
        let asked = joined.copy(|into| transport.read(into), |bytes| (&*node).write_all(bytes));
        // A node answers what it was asked before it closes.
        drop(node.shutdown(if asked.is_ok() { Shutdown::Write } else { Shutdown::Both }));
        let answered = answering.join().map_err(|_| io::Error::other("the thread beside it panicked"))?;
        // That the client cannot be read is only said when the node did not end it.
        let is_said = |error: &io::Error| error.kind() == ErrorKind::TimedOut || !joined.is_over.load(Acquire);
        answered.and(asked.or_else(|error| if is_said(&error) { Err(error) } else { Ok(()) }))
    })
}

impl Joined<'_> {
    /// Copies until there is no more.
    fn copy(
        &self,
        read: impl Fn(&mut [u8]) -> io::Result<usize>,
        write: impl Fn(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    write(&buffer[..count])?;
                    *self.spoke() = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if self.stopping.load(Acquire) || self.is_over.load(Acquire) {
                        return Ok(());
                    }
                    if self.spoke().elapsed() >= self.silence_max {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn spoke(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.spoke.lock().expect("no panic under the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const LONG: Duration = Duration::from_secs(60);

    struct Ends {
        client: TcpStream,
        transport: Transport,
        node: TcpStream,
        far: TcpStream,
    }

    fn ends() -> Ends {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || {
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (near, listener.accept().unwrap())
        };
        let (client, (stream, peer)) = connect();
        let (node, (far, _)) = connect();
        let counted = crate::metrics::Connections::default().connected(peer, 0);
        for end in [&client, &far] {
            end.set_read_timeout(Some(LONG)).unwrap();
        }
        Ends { client, transport: Transport::tcp(stream, counted, LONG).unwrap(), node, far }
    }

    #[test]
    fn what_either_end_says_reaches_the_other_and_its_end_too() {
        let Ends { mut client, transport, node, mut far } = ends();
        let stopping = AtomicBool::new(false);
        let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 7) as u8).collect();
        thread::scope(|scope| {
            let served = scope.spawn(|| serve(&transport, &node, LONG, &stopping));
            let mut asks = client.try_clone().unwrap();
            scope.spawn(|| {
                let mut asks = asks.write_all(&sent).map(|()| asks);
                asks.as_mut().unwrap().shutdown(Shutdown::Write).unwrap();
            });
            let mut asked = Vec::new();
            far.read_to_end(&mut asked).unwrap();
            assert!(asked == sent, "the end of it comes too");
            far.write_all(&sent).unwrap();
            far.shutdown(Shutdown::Both).unwrap();
            let mut answered = Vec::new();
            client.read_to_end(&mut answered).unwrap();
            assert!(answered == sent);
            served.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_node_that_goes_ends_its_client_and_a_stop_and_silence_end_both() {
        let Ends { mut client, transport, node, far } = ends();
        let stopping = AtomicBool::new(false);
        thread::scope(|scope| {
            let served = scope.spawn(|| serve(&transport, &node, LONG, &stopping));
            drop(far);
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            served.join().unwrap().unwrap();
        });
        let Ends { transport, node, client: _client, far: _far } = ends();
        let stopping = AtomicBool::new(true);
        assert!(serve(&transport, &node, LONG, &stopping).is_ok());
        let Ends { transport, node, client: _client, far: _far } = ends();
        let stopping = AtomicBool::new(false);
        assert!(serve(&transport, &node, Duration::ZERO, &stopping).is_err());
    }
}
