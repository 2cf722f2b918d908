use super::{Header, check};
use crate::image_format::ImageFormat;
use crate::import::source_file::SourceFile;
use proptest::prelude::{any, prop, proptest};
use std::io::Write;
use tempfile::NamedTempFile;

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
}
