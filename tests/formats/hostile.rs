//! Images that name what is not theirs, or claim what cannot be: each ends in one error, soon, in little memory, and
//! nothing of it stays in the pool. The cases are those that image formats of QEMU have had advisories for.

use crate::cli_program::Place;
use crate::measured::modestly;
use crate::{disk, path, tool};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

pub(crate) const MIB: u64 = 1 << 20;

/// A pool, a good image, and what it was before anything was imported.
pub(crate) struct Attack {
    pub(crate) place: Place,
    pub(crate) image: String,
    format: &'static str,
    mapped: serde_json::Value,
}

impl Attack {
    pub(crate) fn new(format: &'static str, options: &[&str]) -> Self {
        let place = Place::new().with_pool();
        let raw = disk::mixed(&place, "disk.raw", 16 * MIB, 1);
        let image = path(&place.path("image")).to_owned();
        tool("qemu-img", &[&["convert", "-f", "raw", "-O", format], options, &[&raw, &image]].concat());
        let mapped = place.json(&["pool", "status"])["mapped"].clone();
        Self { place, image, format, mapped }
    }

    pub(crate) fn qcow2() -> Self {
        Self::new("qcow2", &[])
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        fs::read(&self.image).expect("there")
    }

    pub(crate) fn patch(&self, offset: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.image).expect("there");
        file.write_all_at(bytes, offset).expect("written");
    }

    pub(crate) fn cut(&self, length: u64) {
        let file = File::options().write(true).open(&self.image).expect("there");
        file.set_len(length).expect("cut");
    }

    /// It is not imported, for this reason.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, why: &str) {
        let import = ["image", "import", "golden@v1", &self.image, "--format", self.format];
        modestly(|| self.place.run(&import)).fails(code, why);
        self.nothing_is_left();
    }

    /// It is a good image, if an odd one.
    #[track_caller]
    pub(crate) fn succeeds(&self) {
        self.place.ok(&["image", "import", "golden@v1", &self.image, "--format", self.format]);
        crate::imports::assert_same(&self.place, &self.image, self.format, "golden@v1");
        self.place.ok(&["image", "rm", "--yes", "golden@v1"]);
        self.place.ok(&["pool", "settle"]);
    }

    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        assert_eq!(self.place.json(&["ls"])["items"], serde_json::json!([]));
        assert_eq!(self.place.json(&["pool", "status"])["mapped"], self.mapped);
        let left = fs::read_dir(self.place.run_directory()).expect("readable").count();
        assert_eq!(left, 0, "no socket stays");
    }

    /// It may be imported or refused; either way soon, and in little memory.
    #[track_caller]
    pub(crate) fn ends(&self) {
        let import = ["image", "import", "golden@v1", &self.image, "--format", self.format];
        let ended = modestly(|| self.place.run(&import));
        if ended.code == Some(0) {
            self.place.ok(&["image", "rm", "--yes", "golden@v1"]);
            self.place.ok(&["pool", "settle"]);
        } else {
            ended.fails(1, "");
        }
        self.nothing_is_left();
        self.place.ok(&["pool", "check"]);
    }
}

/// CVE-2024-4467, CVE-2024-32498, and CVE-2026-27211 of another program: names in an image, of files of the host.
mod names {
    use super::{Attack, MIB, disk, path, tool};

    fn backed_by(name: &str, format: &str) -> Attack {
        let attack = Attack::qcow2();
        let place = &attack.place;
        disk::mixed(place, "base", 16 * MIB, 2);
        std::fs::remove_file(&attack.image).expect("there");
        let size = ["create", "-q", "-u", "-f", "qcow2", "-F", format, "-b", name, &attack.image, "16M"];
        tool("qemu-img", &size);
        attack
    }

    #[test]
    fn a_backing_file_is_opened_only_when_the_operator_names_it() {
        for (name, format) in [("/etc/passwd", "raw"), ("base", "raw"), ("/dev/sda", "raw")] {
            backed_by(name, format).fails(2, "which is not named");
        }
    }

    /// A backing file may be a description of something to open instead.
    #[test]
    fn a_pseudo_protocol_is_a_name_like_any_other() {
        let json = r#"json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}"#;
        for name in [json, "nbd://127.0.0.1:1/x", "fat:/etc", "blkdebug::/etc/passwd"] {
            let attack = backed_by(name, "raw");
            attack.fails(2, "which is not named");
            let base = path(&attack.place.path("base")).to_owned();
            let import =
                ["image", "import", "golden@v1", &attack.image, "--format", "qcow2", "--backing", &base];
            attack.place.run(&import).fails(2, "and");
            attack.nothing_is_left();
        }
    }

    #[test]
    fn a_backing_file_without_a_format_is_not_guessed() {
        let attack = backed_by("base", "raw");
        let extension = [0xe2, 0x79, 0x2a, 0xca];
        let at = attack.bytes().windows(4).position(|bytes| bytes == extension).expect("the extension");
        attack.patch(u64::try_from(at).expect("small"), &[0; 4]);
        attack.fails(2, "does not say of which format");
        backed_by("base", "luks").fails(2, "of the format \"luks\"");
    }

    #[test]
    fn an_image_that_is_its_own_backing_file_ends() {
        let attack = backed_by("image", "qcow2");
        let image = attack.image.clone();
        for count in [1, 2, 31, 32] {
            let backing = ["--backing", image.as_str()].repeat(count);
            let import = ["image", "import", "golden@v1", &image, "--format", "qcow2"];
            let ended = attack.place.run(&[&import[..], &backing].concat());
            ended.fails(2, if count == 32 { "31 are the most" } else { "which is not named" });
        }
        attack.nothing_is_left();
    }

    #[test]
    fn a_data_file_is_refused_by_the_bit_and_by_the_name() {
        let attack = Attack::qcow2();
        std::fs::remove_file(&attack.image).expect("there");
        let data = path(&attack.place.path("data")).to_owned();
        let option = format!("data_file={data},data_file_raw=on");
        tool("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &option, &attack.image, "16M"]);
        attack.fails(2, "has its data in another file");
        // Without the bit the name alone would be left.
        attack.patch(72, &[0; 8]);
        attack.fails(2, "has its data in another file, \"");
    }
}

mod qcow2 {
    use super::{Attack, path, tool};

    /// Field of the header, its value there, what the failure says. Among them CVE-2014-0143, -0144, -0145, -0146 and -0147.
    #[test]
    fn a_header_that_claims_too_much_is_refused_before_anything_is_allocated() {
        let cases: [(&str, u64, &[u8], &str); 19] = [
            ("magic", 0, b"QFI\xfa", "is not qcow2"),
            ("version", 4, &[0, 0, 0, 9], "version 9"),
            ("cluster bits, few", 20, &[0, 0, 0, 8], "clusters of 2^8"),
            ("cluster bits, many", 20, &[0, 0, 0, 22], "clusters of 2^22"),
            ("cluster bits, most", 20, &[0xff; 4], "clusters of 2^4294967295"),
            ("size 0", 24, &[0; 8], "empty"),
            ("size 2^63", 24, &[0x80, 0, 0, 0, 0, 0, 0, 0], "has a table of"),
            ("size, largest", 24, &[0xff; 8], "has a table of"),
            ("encryption", 32, &[0, 0, 0, 1], "encrypted"),
            ("map, long", 36, &[0xff; 4], "has a table of 4294967295"),
            ("map, none", 36, &[0; 4], "has a table of 0"),
            ("map, elsewhere", 40, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0], "has its map at"),
            ("map, crooked", 40, &[0, 0, 0, 0, 0, 3, 0, 1], "has its map at"),
            ("references, elsewhere", 48, &[0xff; 8], "has its reference counts at"),
            ("references, many", 56, &[0xff; 4], "counts references in 4294967295"),
            ("references, none", 56, &[0; 4], "counts references in 0"),
            ("snapshots, many", 60, &[0xff; 4], "4294967295 snapshots"),
            (
                "snapshots, elsewhere",
                60,
                &[0, 0, 0xff, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0],
                "has its snapshots at",
            ),
            ("bits of a reference", 96, &[0, 0, 0, 7], "more than 64 bits"),
        ];
        for (name, offset, bytes, why) in cases {
            println!("{name}");
            let attack = Attack::qcow2();
            attack.patch(offset, bytes);
            let code = if ["magic", "encryption"].contains(&name) { 2 } else { 1 };
            attack.fails(code, why);
        }
    }

    #[test]
    fn features_nobody_knows_are_refused() {
        let cases: [(u64, &[u8], i32, &str); 5] = [
            (79, &[1 << 5], 2, "features nobody knows"),
            (72, &[0x80], 2, "features nobody knows"),
            (79, &[1 << 1], 2, "marked as corrupt"),
            (79, &[1 << 3], 1, "compressed in a way"),
            (104, &[2], 1, "compressed in a way"),
        ];
        for (offset, bytes, code, why) in cases {
            let attack = Attack::qcow2();
            attack.patch(offset, bytes);
            attack.fails(code, why);
        }
    }

    #[test]
    fn lengths_of_the_header_are_bounded() {
        for length in [0_u32, 8, 103, 105, 1 << 20, u32::MAX] {
            let attack = Attack::qcow2();
            attack.patch(100, &length.to_be_bytes());
            attack.fails(1, &format!("a header of {length} bytes"));
        }
        // An extension behind a header of 112 bytes.
        for length in [1_u32 << 16, u32::MAX] {
            let attack = Attack::qcow2();
            attack.patch(112, &0x1234_5678_u32.to_be_bytes());
            attack.patch(116, &length.to_be_bytes());
            attack.fails(1, "an extension of its header that is too long");
        }
        let attack = Attack::qcow2();
        attack.patch(112, &[1, 2, 3, 4, 0, 0, 0, 0].repeat(200));
        attack.fails(1, "extensions of its header without an end");
    }

    #[test]
    fn a_name_of_a_backing_file_is_inside_the_header() {
        for (offset, length) in [(u64::MAX, 8_u32), (65_530, 100), (200, u32::MAX), (200, 1024)] {
            let attack = Attack::qcow2();
            attack.patch(8, &offset.to_be_bytes());
            attack.patch(16, &length.to_be_bytes());
            attack.fails(1, "names a backing file with");
        }
    }

    #[test]
    fn a_disk_larger_than_allowed_is_refused_and_one_that_is_allowed_is_not() {
        let attack = Attack::qcow2();
        std::fs::remove_file(&attack.image).expect("there");
        tool("qemu-img", &["create", "-q", "-f", "qcow2", &attack.image, "2T"]);
        attack.fails(2, "its disk has 2 TiB, and 1 TiB are the most");
        let import = ["image", "import", "golden@v1", &attack.image, "--format", "qcow2", "--size-max", "2T"];
        let view = super::modestly(|| attack.place.json(&import));
        assert_eq!((&view["stored"], &view["size"]), (&0.into(), &(2_u64 << 40).into()));
    }

    #[test]
    fn encrypted_images_are_refused() {
        let attack = Attack::qcow2();
        std::fs::remove_file(&attack.image).expect("there");
        let arguments = ["create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=key", "-o"];
        let option = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
        tool("qemu-img", &[&arguments[..], &[option, path(attack.image.as_ref()), "16M"]].concat());
        attack.fails(2, "is encrypted");
    }
}

mod vmdk {
    use super::{Attack, MIB};
    use std::fs;

    /// Each line of such a list would be opened.
    #[test]
    fn lists_of_files_are_refused() {
        for kind in ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
            Attack::new("vmdk", &["-o", &format!("subformat={kind}")]).fails(2, "is a list of other files");
        }
        let attack = Attack::new("vmdk", &[]);
        let list = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\
                    RW 32768 FLAT \"/etc/passwd\" 0\n";
        fs::write(&attack.image, list).expect("written");
        attack.fails(2, "is a list of other files");
    }

    fn with_descriptor(change: impl Fn(&str) -> String) -> Attack {
        let attack = Attack::new("vmdk", &[]);
        let bytes = attack.bytes();
        let start = bytes.windows(8).position(|text| text == b"# Disk D").expect("a descriptor");
        let text = &bytes[start..start + 20 * 512];
        let end = text.iter().position(|byte| *byte == 0).expect("zeros behind it");
        let mut changed = change(std::str::from_utf8(&text[..end]).expect("text")).into_bytes();
        changed.resize(20 * 512, 0);
        attack.patch(u64::try_from(start).expect("small"), &changed);
        attack
    }

    #[test]
    fn a_descriptor_inside_of_an_image_leads_nowhere_else() {
        let cases: [(&str, &str, &str); 6] = [
            (
                "parentCID=ffffffff",
                "parentCID=12345678\nparentFileNameHint=\"/etc/passwd\"",
                "differs from \"/etc",
            ),
            ("parentCID=ffffffff", "parentCID=12345678", "differs from another disk"),
            ("monolithicSparse", "monolithicFlat", "of the kind \"monolithicFlat\""),
            ("SPARSE", "FLAT", "has its data elsewhere"),
            ("RW ", "RW 2048 SPARSE \"/etc/passwd\"\nRW ", "consists of 2 files"),
            ("version=1", "encryption.keySafe=\"x\"", "is encrypted"),
        ];
        for (old, new, why) in cases {
            with_descriptor(|text| text.replacen(old, new, 1)).fails(2, why);
        }
    }

    /// Offsets in the header: version 4, capacity 12, grain 20, descriptor 28 and 36, entries 44, directory 56.
    #[test]
    fn a_header_that_makes_no_sense_is_refused() {
        let big = u64::MAX / 2;
        let cases: [(u64, Vec<u8>, i32, &str); 10] = [
            (0, b"XDMV".to_vec(), 2, "is not vmdk"),
            (4, vec![9, 0, 0, 0], 1, "version 9"),
            (12, vec![0; 8], 1, "empty"),
            (12, big.to_le_bytes().to_vec(), 1, "larger than any disk"),
            (12, (1_u64 << 40).to_le_bytes().to_vec(), 2, "1 TiB are the most"),
            (20, 1_u64.to_le_bytes().to_vec(), 1, "grains of 1 sectors"),
            (20, big.to_le_bytes().to_vec(), 1, "grains of"),
            (36, big.to_le_bytes().to_vec(), 1, "descriptor that is too long"),
            (44, vec![0xff; 4], 1, "tables of 4294967295"),
            (56, big.to_le_bytes().to_vec(), 1, "ends before its directory"),
        ];
        for (offset, bytes, code, why) in cases {
            let attack = Attack::new("vmdk", &[]);
            attack.patch(offset, &bytes);
            attack.fails(code, why);
        }
    }

    /// The header at the end counts when the one at the start says so.
    #[test]
    fn the_footer_of_a_stream_is_looked_at_too() {
        let attack = Attack::new("vmdk", &["-o", "subformat=streamOptimized"]);
        let start = attack.bytes()[..512].to_vec();
        let end = u64::try_from(attack.bytes().len()).expect("small").next_multiple_of(512);
        // A marker of 0 sectors and the kind 3, the header as it was, a marker of the end.
        attack.patch(end + 12, &[3]);
        attack.patch(end + 512, &start);
        attack.cut(end + 1536);
        attack.patch(56, &u64::MAX.to_le_bytes());
        attack.succeeds();
        let length = end + 1536;
        attack.patch(length - 1024 + 12, &0_u64.to_le_bytes());
        attack.fails(1, "empty");
        attack.patch(length - 1024 + 12, &(1_u64 << 30).to_le_bytes());
        attack.fails(1, "another disk than it begins with");
        attack.patch(length - 1024, b"XXXX");
        attack.fails(1, "does not end as it should");
    }

    #[test]
    fn grains_and_tables_elsewhere_do_no_harm() {
        let attack = Attack::new("vmdk", &[]);
        let directory = u64::from_le_bytes(attack.bytes()[56..64].try_into().expect("eight")) * 512;
        let at = usize::try_from(directory).expect("small");
        let table = u64::from(u32::from_le_bytes(attack.bytes()[at..at + 4].try_into().expect("four"))) * 512;
        for sector in [1_u32, 21, u32::MAX, u32::MAX / 512] {
            attack.patch(table, &sector.to_le_bytes().repeat(100));
            attack.ends();
        }
        attack.patch(directory, &u32::MAX.to_le_bytes());
        attack.ends();
    }

    #[test]
    fn what_lacks_its_end_is_refused() {
        for kind in ["monolithicSparse", "streamOptimized"] {
            let attack = Attack::new("vmdk", &["-o", &format!("subformat={kind}")]);
            attack.cut(MIB);
            attack.fails(1, "");
            attack.cut(300);
            attack.fails(1, "ends");
        }
    }
}
