//! The file an export makes: under another name beside its place until it is whole and durable, then in its place at once.
//!
//! A crash leaves that other name behind, `.NAME.offshoot-PROCESS-NUMBER`; nothing in the place is touched before the end.

use super::sink::unwritable;
use crate::failure::{Code, Failure};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub(super) struct TargetFile {
    file: File,
    /// Where it is; `None` once it is in its place.
    unfinished: Option<PathBuf>,
    place: PathBuf,
    force: bool,
}

impl TargetFile {
    /// Without `force` nothing may be in the place, with it a plain file.
    pub(super) fn create(place: &Path, force: bool, what: &str) -> Result<Self, Failure> {
        let shown = place.display();
        let refused = |code, why: String, next: String| Failure::new(code, what, why, next);
        match place.symlink_metadata() {
            Ok(found) if !found.is_file() => {
                let why = format!("{shown} is there and is no plain file");
                return Err(refused(Code::Conflict, why, "another file".to_owned()));
            }
            Ok(_) if !force => return Err(is_there(place, what)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(refused(Code::Failed, format!("{shown}: {error}"), format!("ls -ld {shown}")));
            }
        }
        let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(refused(
                Code::Usage,
                format!("{shown} is no name of a file"),
                "another file".to_owned(),
            ));
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let other = format!(".{}.offshoot-{}-{number}", name.display(), std::process::id());
        let unfinished = folder.join(other);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unfinished);
        let file = file.map_err(|error| {
            let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Failed };
            let why = format!("no file can be made in {}: {error}", folder.display());
            refused(code, why, format!("ls -ld {}", folder.display()))
        })?;
        Ok(Self { file, unfinished: Some(unfinished), place: place.to_owned(), force })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes it durable and puts it in its place.
    pub(super) fn publish(mut self, what: &str) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| unwritable(&error, what))?;
        let unfinished = self.unfinished.as_deref().expect("it is published once");
        let flags = if self.force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        match renameat_with(CWD, unfinished, CWD, &self.place, flags) {
            Ok(()) => self.unfinished = None,
            Err(rustix::io::Errno::EXIST) => return Err(is_there(&self.place, what)),
            Err(errno) => return Err(unwritable(&errno.into(), what)),
        }
        let folder = self.place.parent().expect("it has one, where its other name was");
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| unwritable(&error, what))
    }
}

fn is_there(place: &Path, what: &str) -> Failure {
    let why = format!("{} is there already", place.display());
    Failure::new(Code::Conflict, what, why, "another file, or --force, which replaces it")
}

impl Drop for TargetFile {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            // Somebody else may have removed it.
            let _gone_is_fine = fs::remove_file(unfinished);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TargetFile;
    use crate::failure::Code;
    use std::fs;
    use std::io::Write;

    #[test]
    fn nothing_is_in_the_place_before_the_end_and_nothing_is_left_without_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("disk.raw");
        let target = TargetFile::create(&place, false, "x").expect("made");
        assert!(!place.exists());
        drop(target);
        assert_eq!(directory.path().read_dir().expect("readable").count(), 0);
        let target = TargetFile::create(&place, false, "x").expect("made");
        target.file().write_all(b"new").expect("written");
        target.publish("x").expect("published");
        assert_eq!(fs::read(&place).expect("there"), b"new");
        assert_eq!(directory.path().read_dir().expect("readable").count(), 1);
    }

    #[test]
    fn a_file_that_is_there_is_replaced_by_force_only_and_not_by_accident() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("disk.raw");
        let early = TargetFile::create(&place, false, "x").expect("made");
        fs::write(&place, b"old").expect("written");
        assert_eq!(TargetFile::create(&place, false, "x").expect_err("there").code, Code::Conflict);
        assert_eq!(early.publish("x").expect_err("there by now").code, Code::Conflict);
        assert_eq!(fs::read(&place).expect("there"), b"old");
        TargetFile::create(&place, true, "x").expect("made").publish("x").expect("published");
        assert_eq!(fs::read(&place).expect("there"), b"");
        assert_eq!(directory.path().read_dir().expect("readable").count(), 1);
        assert_eq!(
            TargetFile::create(directory.path(), true, "x").expect_err("no file").code,
            Code::Conflict
        );
    }
}
