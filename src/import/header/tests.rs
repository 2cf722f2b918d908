use super::{Header, check};
use crate::image_format::ImageFormat;
use crate::import::blocks::Blocks;
use crate::import::source_file::SourceFile;
use proptest::prelude::{Just, any, prop, prop_assert, prop_oneof, proptest};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use tempfile::NamedTempFile;

/// Where a VHDX has something to say.
const VHDX_PLACES: [usize; 7] = [0, 64 << 10, 128 << 10, 192 << 10, 2 << 20, (2 << 20) + (64 << 10), 3 << 20];
const KINDS: [ImageFormat; 3] = [ImageFormat::Qcow2, ImageFormat::Vmdk, ImageFormat::Vhdx];

/// A qcow2 header of version 3 with a backing file, and room for the tables it speaks of.
fn qcow2() -> Vec<u8> {
    let mut bytes = vec![0; 6 << 16];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"QFI\xfb\0\0\0\x03");
    put(8, &512_u64.to_be_bytes());
    put(16, &8_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 30).to_be_bytes());
    put(36, &2_u32.to_be_bytes());
    put(40, &(3_u64 << 16).to_be_bytes());
    put(48, &(1_u64 << 16).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &112_u32.to_be_bytes());
    put(112, &0xe279_2aca_u32.to_be_bytes());
    put(116, &3_u32.to_be_bytes());
    put(120, b"raw");
    put(512, b"/a/b.raw");
    bytes
}

fn vmdk() -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"KDMV\x01\0\0\0");
    put(12, &2048_u64.to_le_bytes());
    put(20, &128_u64.to_le_bytes());
    put(28, &1_u64.to_le_bytes());
    put(36, &20_u64.to_le_bytes());
    put(44, &512_u32.to_le_bytes());
    put(56, &32_u64.to_le_bytes());
    put(
        512,
        b"# Disk DescriptorFile\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\nRW 2048 SPARSE \"x\"\n",
    );
    bytes
}

/// A VHDX of one block of 1 MiB, which is there.
fn vhdx() -> Vec<u8> {
    let mut bytes = vec![0; 5 << 20];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"vhdxfile");
    for at in [64 << 10, 128 << 10] {
        put(at, b"head");
        put(at + 66, &[1]);
        put(at + 68, &(1_u32 << 20).to_le_bytes());
        put(at + 72, &(1_u64 << 20).to_le_bytes());
    }
    for at in [192 << 10, 256 << 10] {
        put(at, b"regi");
        put(at + 8, &[2]);
        put(at + 16, b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08");
        put(at + 16 + 16, &(3_u64 << 20).to_le_bytes());
        put(at + 16 + 24, &(1_u32 << 20).to_le_bytes());
        put(at + 48, b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e");
        put(at + 48 + 16, &(2_u64 << 20).to_le_bytes());
        put(at + 48 + 24, &(1_u32 << 20).to_le_bytes());
    }
    let metadata = 2 << 20;
    put(metadata, b"metadata");
    put(metadata + 10, &[3]);
    let items: [(&[u8; 16], u8, &[u8]); 3] = [
        (b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b", 0, &[0, 0, 16, 0, 0, 0, 0, 0]),
        (b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8", 8, &[0, 0, 16, 0, 0, 0, 0, 0]),
        (b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f", 16, &[0, 2, 0, 0]),
    ];
    for (number, (id, offset, item)) in items.into_iter().enumerate() {
        let entry = metadata + 32 + number * 32;
        put(entry, id);
        put(entry + 16, &[offset, 0, 1, 0]);
        put(entry + 20, &[u8::try_from(item.len()).expect("short")]);
        put(metadata + (64 << 10) + usize::from(offset), item);
    }
    put(3 << 20, &((4_u64 << 20) + 6).to_le_bytes());
    seal(&mut bytes);
    bytes
}

/// Makes the checksums of the headers and of the tables of regions right.
fn seal(bytes: &mut [u8]) {
    for (at, length) in [(64 << 10, 4096), (128 << 10, 4096), (192 << 10, 64 << 10), (256 << 10, 64 << 10)] {
        let Some(part) = bytes.get_mut(at..at + length) else { return };
        part[4..8].fill(0);
        let sum = crc32c::crc32c(part);
        part[4..8].copy_from_slice(&sum.to_le_bytes());
    }
}

fn look(bytes: &[u8], format: ImageFormat) -> Result<Header, String> {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    let source = SourceFile::open(file.path(), "x").map_err(|failure| failure.why)?;
    check(&source, format, 1 << 40, "x").map_err(|failure| failure.why)
}

#[test]
fn good_headers_are_believed() {
    let header = look(&qcow2(), ImageFormat::Qcow2).expect("good");
    assert_eq!(header.size, 1 << 30);
    let backing = header.backing.expect("named");
    assert_eq!((backing.file_name(), backing.format), (&b"b.raw"[..], ImageFormat::Raw));
    let header = look(&vmdk(), ImageFormat::Vmdk).expect("good");
    assert_eq!(header, Header { size: 1 << 20, backing: None, blocks: None });
    let header = look(&vhdx(), ImageFormat::Vhdx).expect("good");
    assert_eq!((header.size, header.backing), (1 << 20, None));
    assert!(header.blocks.is_some());
}

/// What is counted per mebibyte of a file is counted only in files that can be.
#[test]
fn a_vhdx_longer_than_any_is_refused() {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = File::from(rustix::fs::memfd_create("x", flags).expect("a file of memory"));
    file.write_all_at(b"vhdxfile", 0).expect("written");
    file.set_len((128 << 40) + 1).expect("a length");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let source = SourceFile::open(path.as_ref(), "x").expect("a file");
    let failure = check(&source, ImageFormat::Vhdx, 1 << 40, "x").expect_err("too long");
    assert!(failure.why.contains("no vhdx has more than 128 TiB"), "{failure}");
}

proptest! {
    /// Any few bytes changed anywhere: an answer or a refusal, and no panic.
    #[test]
    fn changed_headers_are_believed_or_refused(
        kind in 0_usize..2,
        changes in prop::collection::vec((0_usize..1024, any::<u8>()), 0..12),
        length in 1_usize..400_000,
    ) {
        let mut bytes = [qcow2, vmdk][kind]();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(length);
        let _either_is_fine = look(&bytes, KINDS[kind]);
    }

    #[test]
    fn any_bytes_are_believed_or_refused(kind in 0_usize..3, tail: Vec<u8>) {
        let magic: [&[u8]; 3] = [b"QFI\xfb\0\0\0\x03", b"KDMV\x01\0\0\0", b"vhdxfile"];
        let _either_is_fine = look(&[magic[kind], &tail].concat(), KINDS[kind]);
    }

    /// Bytes of the headers, regions, metadata and the table changed, and checksums made right again.
    #[test]
    fn a_changed_vhdx_is_believed_or_refused(
        changes in prop::collection::vec(
            (prop::sample::select(&VHDX_PLACES[..]), 0_usize..128, prop_oneof![any::<u8>(), 0_u8..8]),
            1..6,
        ),
        length in prop_oneof![Just(5_usize << 20), 1_usize..5 << 20],
    ) {
        let mut bytes = vhdx();
        for (place, within, byte) in changes {
            bytes[place + within] = byte;
        }
        seal(&mut bytes);
        bytes.truncate(length);
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(&bytes).expect("written");
        let source = SourceFile::open(file.path(), "x").expect("a file");
        if let Ok(header) = check(&source, ImageFormat::Vhdx, 1 << 40, "x") {
            let table = header.blocks.expect("a vhdx has one");
            let mut blocks = Blocks::new(&source, &table, "x");
            while let Ok(Some(run)) = blocks.next() {
                prop_assert!(run.length <= header.size);
            }
        }
    }
}
