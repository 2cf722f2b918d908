//! `offshoot quickstart`: a pool, an image, clones and a snapshot, each made by the command that is shown.

use crate::arguments::{
    CloneArguments, Consent, ImageImportArguments, PolicyArguments, PoolCreateArguments, SnapshotArguments,
    View,
};
use crate::failure::{Code, Failure};
use crate::image_format::ImageFormat;
use crate::output::{Format, Style, say};
use crate::pool_choice::PoolChoice;
use std::io::Write as _;
use std::path::Path;

const POOL_BYTES: u64 = 1 << 30;
const IMAGE_BYTES: u64 = 64 << 20;

pub(super) fn run(pool: &PoolChoice, directory: &Path, view: &View) -> Result<(), Failure> {
    // The tree at the end is the one document; what was done before is told in sentences.
    let style = Style { format: Format::Table, exact_bytes: view.bytes };
    let file = directory.join("quickstart.pool");
    let image = directory.join("quickstart.img");
    let own = PoolChoice::new(Some(file.clone()), None, pool.engine);
    let show = |command: &str| say(&format!("$ offshoot {command}"));
    show(&format!("pool create {} --size 1G", file.display()));
    let size = format!("{POOL_BYTES}").parse().ok();
    let create = PoolCreateArguments {
        paths: vec![file.clone()],
        size,
        name: Some("quickstart".to_owned()),
        policy: PolicyArguments::default(),
    };
    super::pool_create::run(&create, pool.engine, style)?;
    say(&format!("# {} stands for a golden image here: zeros, and a few words", image.display()));
    write_image(&image)?;
    show(&format!("image import quickstart/golden@v1 {}", image.display()));
    let import = ImageImportArguments {
        version: "golden@v1".to_owned(),
        file: image.clone(),
        base: None,
        no_base: true,
        force_raw: false,
        format: ImageFormat::Raw,
        backing: Vec::new(),
        size_max: None,
        consent: Consent::default(),
    };
    super::image_import::run(&own, import, style)?;
    show("clone create quickstart/golden@v1 'desk-{01..03}'");
    let clone = CloneArguments {
        source: "golden@v1".to_owned(),
        names: vec!["desk-{01..03}".to_owned()],
        size: None,
        labels: Vec::new(),
        seed: None,
        seed_network: None,
        consent: Consent::default(),
    };
    super::clone::run(&own, clone, style)?;
    show("snap create quickstart/desk-01@fresh");
    let snapshot = SnapshotArguments { names: vec!["desk-01@fresh".to_owned()], consent: Consent::default() };
    super::snapshot::run(&own, snapshot, style)?;
    show("tree quickstart");
    super::tree::run(&own, view)?;
    let _unused = std::fs::remove_file(&image);
    say("next: offshoot serve quickstart, and in another terminal: offshoot export start quickstart/desk-01");
    say(&format!("to undo all of it: offshoot pool forget quickstart && rm {}", file.display()));
    Ok(())
}

fn write_image(path: &Path) -> Result<(), Failure> {
    let write = || {
        let mut file = std::fs::File::create_new(path)?;
        file.write_all(b"a golden image\n")?;
        file.set_len(IMAGE_BYTES)
    };
    write().map_err(|error: std::io::Error| {
        let why = format!("{}: {error}", path.display());
        Failure::new(
            Code::Failed,
            "quickstart went no further",
            why,
            "offshoot quickstart DIRECTORY with another one",
        )
    })
}
