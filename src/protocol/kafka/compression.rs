//! The four codecs of Kafka's record batches, in both directions, with limits that a decompression bomb cannot exceed.
//!
//! ```text
//! attributes & 7    0 none   1 gzip   2 snappy   3 lz4 (frames)   4 zstd
//!
//! snappy as Java writes it ("Xerial"):   82 S N A P P Y 00 │ version i32, compatible i32 │ (length i32, raw snappy)...
//! ```
//!
//! - A decompressor stops at its cap, whatever the input claims to hold.
//! - Snappy is read both raw and framed, and written framed: Java reads nothing else, librdkafka and the others read both.
//! - lz4 is written in independent blocks, the only kind that Java reads.
//! - zstd decompresses straight into the output, which serves as its window: a frame cannot demand another.

use crate::config::{CompressionType, Settings};
use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use std::{
    fmt,
    io::{Read, Write},
};
use zstd::zstd_safe::{self, CCtx, DCtx};

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// snappy, in Java's frames or raw.
    Snappy,
    /// lz4 frames.
    Lz4,
    /// zstd.
    Zstd,
}

impl Codec {
    /// The codec that a batch's attributes name.
    pub fn of_attributes(attributes: i16) -> Option<Codec> {
        [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]
            .get(usize::from(attributes as u16 & 7))
            .copied()
    }

    /// The codec in which a stored batch came, by the number in its entry. Unknown numbers mean none.
    pub fn of_stored(codec: u8) -> Codec {
        Codec::of_attributes(codec.into()).unwrap_or(Codec::None)
    }

    /// The codec that a topic's `compression.type` names; `None` stands for `producer`, each batch's own.
    pub fn of_setting(setting: CompressionType) -> Option<Codec> {
        match setting {
            CompressionType::Producer => None,
            CompressionType::Uncompressed => Some(Codec::None),
            CompressionType::Gzip => Some(Codec::Gzip),
            CompressionType::Snappy => Some(Codec::Snappy),
            CompressionType::Lz4 => Some(Codec::Lz4),
            CompressionType::Zstd => Some(Codec::Zstd),
        }
    }
}

/// How hard gzip and zstd compress; the other codecs have no levels here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// `compression.gzip.level`, -1 for gzip's own default.
    pub gzip: i32,
    /// `compression.zstd.level`.
    pub zstd: i32,
}

impl Levels {
    /// The levels where nobody chose any. Each Fetch compresses again, so speed matters more than size: gzip takes a fifth of the
    /// time of its own default.
    pub const FAST: Levels = Levels { gzip: 1, zstd: 1 };

    /// The levels in a topic's settings.
    pub fn of_settings(settings: &Settings) -> Levels {
        Levels { gzip: settings.compression_gzip_level, zstd: settings.compression_zstd_level }
    }
}

impl Default for Levels {
    fn default() -> Levels {
        Levels::of_settings(&Settings::default())
    }
}

/// Why something cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The codec would not have written this.
    Malformed,
    /// It holds more than the cap.
    TooLarge,
}

/// The bytes that Java's snappy begins with.
const XERIAL: [u8; 8] = *b"\x82SNAPPY\0";
/// Java's snappy blocks.
const XERIAL_BLOCK: usize = 32 << 10;
/// A snappy copy of 64 bytes takes three; nothing is shorter.
const SNAPPY_RATIO_MAX: usize = 22;

/// The codecs' state, reused from batch to batch.
#[derive(Default)]
pub struct Codecs {
    /// How hard they compress.
    pub levels: Levels,
    unzstd: Option<DCtx<'static>>,
    zstd: Option<CCtx<'static>>,
    unsnappy: snap::raw::Decoder,
    snappy: Option<snap::raw::Encoder>,
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codecs")
    }
}

impl Codecs {
    /// Replaces `out` by what `input` holds, at most `cap` bytes.
    pub fn decompress(&mut self, codec: Codec, input: &[u8], out: &mut Vec<u8>, cap: usize) -> Result<(), Error> {
        out.clear();
        match codec {
            Codec::None if input.len() > cap => Err(Error::TooLarge),
            Codec::None => {
                out.extend_from_slice(input);
                Ok(())
            }
            Codec::Gzip => read_capped(MultiGzDecoder::new(input), out, cap),
            Codec::Lz4 => read_capped(FrameDecoder::new(input), out, cap),
            Codec::Snappy => match input.strip_prefix(&XERIAL) {
                Some(framed) => self.unframe_snappy(framed, out, cap),
                None => self.append_unsnappied(input, out, cap),
            },
            Codec::Zstd => self.unzstd(input, out, cap),
        }
    }

    fn unframe_snappy(&mut self, framed: &[u8], out: &mut Vec<u8>, cap: usize) -> Result<(), Error> {
        // First come two versions, which have never changed.
        let mut rest = framed.get(8..).ok_or(Error::Malformed)?;
        while let Some((length, behind)) = rest.split_first_chunk() {
            let length = u32::from_be_bytes(*length) as usize;
            let (block, behind) = behind.split_at_checked(length).ok_or(Error::Malformed)?;
            self.append_unsnappied(block, out, cap)?;
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(Error::Malformed) }
    }

    fn append_unsnappied(&mut self, block: &[u8], out: &mut Vec<u8>, cap: usize) -> Result<(), Error> {
        let length = snap::raw::decompress_len(block).map_err(|_| Error::Malformed)?;
        if length > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(Error::Malformed);
        }
        let at = out.len();
        if length > cap - at {
            return Err(Error::TooLarge);
        }
        out.resize(at + length, 0);
        self.unsnappy.decompress(block, &mut out[at..]).map(|_| ()).map_err(|_| Error::Malformed)
    }

    fn unzstd(&mut self, input: &[u8], out: &mut Vec<u8>, cap: usize) -> Result<(), Error> {
        let context = self.unzstd.get_or_insert_with(DCtx::create);
        // Frames written by a stream do not tell their length, so the room is a guess. What earlier batches needed is
        // usually enough.
        let mut room = out.capacity().max(input.len().saturating_mul(4)).min(cap);
        loop {
            out.reserve_exact(room);
            match context.decompress(out, input) {
                Ok(length) if length <= cap => return Ok(()),
                Ok(_) => return Err(Error::TooLarge),
                Err(code) if zstd_safe::get_error_name(code) != "Destination buffer is too small" => {
                    return Err(Error::Malformed);
                }
                Err(_) if room == cap => return Err(Error::TooLarge),
                Err(_) => room = room.saturating_mul(4).min(cap),
            }
        }
    }

    /// Replaces `out` by `input` compressed.
    pub fn compress(&mut self, codec: Codec, input: &[u8], out: &mut Vec<u8>) {
        out.clear();
        match codec {
            Codec::None => out.extend_from_slice(input),
            Codec::Gzip => {
                let level = u32::try_from(self.levels.gzip).map_or(Compression::default(), Compression::new);
                let mut encoder = GzEncoder::new(out, level);
                encoder.write_all(input).and_then(|()| encoder.finish().map(|_| ())).expect("a vector takes all bytes");
            }
            Codec::Lz4 => {
                let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
                let mut encoder = FrameEncoder::with_frame_info(info, out);
                encoder.write_all(input).expect("a vector takes all bytes");
                encoder.finish().expect("a vector takes all bytes");
            }
            Codec::Snappy => self.frame_snappy(input, out),
            Codec::Zstd => {
                let context = self.zstd.get_or_insert_with(CCtx::create);
                out.reserve(zstd_safe::compress_bound(input.len()));
                let done = context.compress(out, input, self.levels.zstd);
                done.expect("the bound is enough room");
            }
        }
    }

    fn frame_snappy(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&XERIAL);
        out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        for block in input.chunks(XERIAL_BLOCK) {
            let at = out.len();
            out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
            let encoder = self.snappy.get_or_insert_with(snap::raw::Encoder::new);
            let length = encoder.compress(block, &mut out[at + 4..]).expect("a block is small and has its room");
            out[at..at + 4].copy_from_slice(&(length as u32).to_be_bytes());
            out.truncate(at + 4 + length);
        }
    }
}

fn read_capped(reader: impl Read, out: &mut Vec<u8>, cap: usize) -> Result<(), Error> {
    let read = reader.take(cap as u64 + 1).read_to_end(out).map_err(|_| Error::Malformed)?;
    if read > cap { Err(Error::TooLarge) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    const CAP: usize = 1 << 20;

    fn compressed(codec: Codec, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Codecs::default().compress(codec, input, &mut out);
        out
    }

    fn decompressed(codec: Codec, input: &[u8], cap: usize) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        Codecs::default().decompress(codec, input, &mut out, cap).map(|()| out)
    }

    #[test]
    fn a_bomb_ends_at_the_cap() {
        let zeros = vec![0; 64 << 20];
        for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd, Codec::Snappy] {
            let bomb = compressed(codec, &zeros);
            let mut out = Vec::new();
            assert_eq!(Codecs::default().decompress(codec, &bomb, &mut out, CAP), Err(Error::TooLarge), "{codec:?}");
            assert!(out.capacity() <= 2 * CAP + 64, "{codec:?} holds {}", out.capacity());
        }
        let raw = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
        assert_eq!(decompressed(Codec::Snappy, &raw, CAP), Err(Error::TooLarge));
    }

    #[test]
    fn the_cap_itself_is_still_in_range() {
        for codec in CODECS {
            let input: Vec<u8> = (0..1000u32).flat_map(u32::to_le_bytes).collect();
            let bytes = compressed(codec, &input);
            assert_eq!(decompressed(codec, &bytes, input.len()), Ok(input.clone()), "{codec:?}");
            assert_eq!(decompressed(codec, &bytes, input.len() - 1), Err(Error::TooLarge), "{codec:?}");
        }
    }

    #[test]
    fn a_claimed_length_sizes_nothing() {
        // Snappy: 64 MiB claimed in four bytes, by a block of ten.
        let mut out = Vec::new();
        let lie = b"\x80\x80\x80\x20abcdef";
        assert_eq!(Codecs::default().decompress(Codec::Snappy, lie, &mut out, 64 << 20), Err(Error::Malformed));
        // zstd: a frame that claims 2^62 bytes and a window of gigabytes.
        let lie = b"\x28\xb5\x2f\xfd\xc0\xa8\0\0\0\0\0\0\0\x40\x01\0\0";
        assert!(Codecs::default().decompress(Codec::Zstd, lie, &mut out, 64 << 20).is_err());
        assert!(out.capacity() < 1 << 20);
        // Xerial: a block longer than the input.
        let lie = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xffabc";
        assert_eq!(Codecs::default().decompress(Codec::Snappy, lie, &mut out, 64 << 20), Err(Error::Malformed));
    }

    #[test]
    fn snappy_is_read_raw_and_in_blocks() {
        let input = b"Kafka's wire protocol ".repeat(10_000);
        let raw = snap::raw::Encoder::new().compress_vec(&input).unwrap();
        assert_eq!(decompressed(Codec::Snappy, &raw, CAP), Ok(input.clone()));
        let framed = compressed(Codec::Snappy, &input);
        assert_eq!(framed[..18], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0");
        assert_eq!(decompressed(Codec::Snappy, &framed, CAP), Ok(input));
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let input: Vec<u8> = (0..20_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Zstd] {
            let bytes = compressed(codec, &input);
            for end in [0, 1, 10, bytes.len() / 2, bytes.len() - 1] {
                let done = decompressed(codec, &bytes[..end], CAP);
                assert!(done.is_err() || done.is_ok_and(|out| out.is_empty() && end == 0), "{codec:?} cut at {end}");
            }
        }
        // An lz4 frame that ends between two blocks gives what was there; the record count finds that out.
        let bytes = compressed(Codec::Lz4, &input);
        assert_ne!(decompressed(Codec::Lz4, &bytes[..bytes.len() / 2], CAP), Ok(input));
    }

    #[test]
    fn the_state_of_a_failed_batch_does_not_reach_the_next() {
        let (mut codecs, mut out) = (Codecs::default(), Vec::new());
        let input = b"again and again and again".repeat(50);
        for codec in CODECS {
            let bytes = compressed(codec, &input);
            assert!(
                codec == Codec::None || codecs.decompress(codec, &bytes[..bytes.len() / 2], &mut out, CAP).is_err()
            );
            codecs.decompress(codec, &bytes, &mut out, CAP).unwrap();
            assert_eq!(out, input, "{codec:?}");
        }
    }

    #[test]
    fn a_higher_level_takes_fewer_bytes() {
        let input: Vec<u8> =
            (0..20_000u32).flat_map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) % 9973).into_bytes()).collect();
        let size = |codec, gzip, zstd| {
            let mut out = Vec::new();
            Codecs { levels: Levels { gzip, zstd }, ..Codecs::default() }.compress(codec, &input, &mut out);
            assert_eq!(decompressed(codec, &out, CAP), Ok(input.clone()));
            out.len()
        };
        assert!(size(Codec::Gzip, 1, 3) > size(Codec::Gzip, 9, 3));
        assert_eq!(size(Codec::Gzip, -1, 3), size(Codec::Gzip, 6, 3));
        assert!(size(Codec::Zstd, -1, -50) > size(Codec::Zstd, -1, 3));
        assert!(size(Codec::Zstd, -1, 3) > size(Codec::Zstd, -1, 19));
        // The ends of Kafka's ranges.
        size(Codec::Zstd, -1, -131_072);
        size(Codec::Zstd, -1, 22);
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(input in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            (any::<Vec<u8>>(), 0..3000usize).prop_map(|(bytes, count)| bytes.repeat(count)),
        ]) {
            let (mut codecs, mut bytes, mut out) = (Codecs::default(), Vec::new(), Vec::new());
            for codec in CODECS {
                codecs.compress(codec, &input, &mut bytes);
                codecs.decompress(codec, &bytes, &mut out, CAP).unwrap();
                prop_assert_eq!(&out, &input, "{:?}", codec);
            }
        }

        #[test]
        fn any_bytes_decompress_or_are_refused(input: Vec<u8>, flip: proptest::sample::Index) {
            let mut out = Vec::new();
            for codec in CODECS {
                let _ = Codecs::default().decompress(codec, &input, &mut out, 1000);
                let mut bytes = compressed(codec, &input.repeat(5));
                if !bytes.is_empty() {
                    let bit = flip.index(bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                let _ = Codecs::default().decompress(codec, &bytes, &mut out, CAP);
                prop_assert!(out.len() <= CAP + 1);
            }
        }
    }
}
