//! The log of one partition: records appended as lines, read back checked. It knows no topic, group or socket.

pub mod disk;
pub mod record;
