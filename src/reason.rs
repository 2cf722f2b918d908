//! Why things do not work: numbers that never change their meaning, for `offshoot explain` and for scripts. The first two digits are
//! the exit code.

use crate::failure::Code;

macro_rules! reasons {
    ($($name:ident = $number:literal, $title:literal, $meaning:literal, $helps:literal;)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Reason { $($name,)+ }

        impl Reason {
            pub(crate) const ALL: &[Reason] = &[$(Reason::$name,)+];

            pub(crate) fn number(self) -> u16 {
                match self { $(Reason::$name => $number,)+ }
            }

            /// In a few words.
            pub(crate) fn title(self) -> &'static str {
                match self { $(Reason::$name => $title,)+ }
            }

            /// What has happened.
            pub(crate) fn meaning(self) -> &'static str {
                match self { $(Reason::$name => $meaning,)+ }
            }

            /// What to do.
            pub(crate) fn helps(self) -> &'static str {
                match self { $(Reason::$name => $helps,)+ }
            }
        }
    };
}

reasons! {
    Failed = 100, "something failed",
        "The system, or Offshoot itself, refused; the line after 'why:' has the reason as it was told.",
        "Do what the line after 'try:' says. If it happens again, run offshoot doctor.";
    Cancelled = 101, "the work was cancelled",
        "Somebody interrupted the command or cancelled its job, or the daemon ended. Nothing of it is left behind.",
        "Run the same command again.";
    ReadOnly = 102, "the pool is open for reading only",
        "The pool was opened without the right to change it.",
        "See who holds it with offshoot pool status, and whether its file can be written.";
    Poisoned = 103, "a flush of the pool's device failed",
        "The device lost what it had been given. To keep what is true apart from what is not, the pool takes no more writes.",
        "Look at the device (dmesg, smartctl). Then start the daemon again: it replays what was durable.";
    Damage = 104, "the pool's metadata is damaged",
        "A block of metadata is not what it should be. Offshoot stops rather than guess.",
        "Copy the pool's file before anything else. offshoot pool check says what is damaged.";
    NoUring = 105, "io_uring is not available",
        "--io uring was asked for, and the kernel forbids io_uring.",
        "Use --io auto, or allow it: sysctl kernel.io_uring_disabled=0.";
    Device = 106, "the pool's device gave an error",
        "Reading or writing the file or block device below the pool failed.",
        "Look at the device (dmesg, df). offshoot pool check says whether something is damaged.";
    DeviceStale = 107, "a device of the pool is not as the pool left it",
        "It is too short, damaged, or a copy of another moment: its data and the pool's map do not belong together.",
        "Bring back the devices as they were last used together. Offshoot opens nothing that is not whole.";
    Usage = 200, "the command was not understood",
        "A name, a number or an option is not what it must be. Nothing was done.",
        "The command with --help shows examples.";
    Invalid = 201, "the request makes no sense for this name or pool",
        "For example a size that is no multiple of 4 KiB, or a clone of a volume that was never snapshotted.",
        "The line after 'why:' says what is wrong with it.";
    NotMemory = 202, "the pool is not in memory",
        "--io mapped maps the pool, which works on tmpfs and DAX only.",
        "Use --io auto.";
    NotADisk = 203, "a pool is a file or a block device",
        "The path leads to a directory, a socket or a character device.",
        "Give the path of the pool's file.";
    WrongDevice = 204, "a device of another place or another pool was given",
        "Devices are known by their labels, not by their paths: this one has another.",
        "The line after 'why:' says what it is; pool status names the devices of a pool.";
    NotFound = 300, "something does not exist",
        "A file, a job, a user or a path that was named is not there.",
        "Look at the spelling.";
    NoSuchName = 301, "no volume, snapshot or version has this name",
        "Names are VOLUME, VOLUME@SNAPSHOT and IMAGE@VERSION.",
        "offshoot ls lists all names.";
    NoSuchPool = 302, "the pool's file does not exist",
        "The file or device was moved or removed, or its disk is not mounted.",
        "offshoot pool ls shows where pools are looked for; offshoot pool register tells a new place.";
    DeviceMissing = 303, "a device of the pool is missing",
        "A pool of several devices opens only when all are there. Nothing is lost by the refusal.",
        "Bring the device back, or tell where it is now with --device.";
    Conflict = 400, "something is in the way",
        "What was asked for cannot be done as things are at this moment.",
        "The line after 'why:' says what is in the way.";
    NameTaken = 401, "the name exists already",
        "Names are unique in a pool, and image versions never change.",
        "Choose another name, or remove the old one.";
    InUse = 402, "it is in use",
        "A virtual machine or a client has it open, or a volume has snapshots that depend on it.",
        "End the export or disconnect the client; remove snapshots first, or use --recursive.";
    Overloaded = 403, "the pool was too busy",
        "Guests wrote faster than the pool could make room for a change of its catalog.",
        "Run the same command again.";
    PoolLocked = 404, "another process has the pool open",
        "A pool is opened once. The line after 'why:' says which process holds it.",
        "If that is a daemon, let the command talk to it: the same user, and the same OFFSHOOT_RUN_DIR.";
    FileExists = 405, "there is a file already",
        "New files are never made in the place of others.",
        "Choose another path.";
    Capacity = 500, "there is too little space, or a limit was reached",
        "The pool, its metadata or a file system is full, or an alert of pool status is critical.",
        "offshoot df shows where the space is.";
    PoolFull = 501, "the pool is full",
        "No block is left for new data. Reads, overwrites of own blocks and removals go on working.",
        "offshoot pool grow adds space; offshoot rm and offshoot pool thin give some back.";
    FileSystemFull = 502, "the file system below the pool is full",
        "The pool's file is sparse, and the file system has no room for its next part.",
        "Make room on that file system; the pool goes on by itself.";
    NeedsConfirmation = 600, "this needs --yes",
        "Something would be lost that is nowhere else, and nobody is there to be asked.",
        "See what it does with --dry-run, then use --yes.";
    TailGone = 601, "acknowledged writes may be lost",
        "The pool was not closed, and its crash tail in memory is gone: the machine was restarted. Writes that guests did not flush are lost.",
        "offshoot pool check --accept-lost-writes opens it with what was durable.";
    Unreachable = 700, "no daemon answered",
        "The command needs a daemon, and there is none, or it did not answer.",
        "Start one with offshoot serve, or look at its log.";
    Closing = 701, "the daemon was about to end",
        "The pool was being closed as the command came.",
        "Run the same command again.";
    Partly = 800, "a part was done",
        "Some of what was asked is done and the rest is not; the lines before say which.",
        "Look with offshoot ls, then ask for the rest.";
}

impl Reason {
    /// What is known when only the exit code is.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::Failed => Reason::Failed,
            Code::Usage => Reason::Usage,
            Code::NotFound => Reason::NotFound,
            Code::Conflict => Reason::Conflict,
            Code::Capacity => Reason::Capacity,
            Code::NeedsConfirmation => Reason::NeedsConfirmation,
            Code::Unreachable => Reason::Unreachable,
            Code::Partly => Reason::Partly,
        }
    }

    pub(crate) fn code(self) -> Code {
        match self.number() / 100 {
            2 => Code::Usage,
            3 => Code::NotFound,
            4 => Code::Conflict,
            5 => Code::Capacity,
            6 => Code::NeedsConfirmation,
            7 => Code::Unreachable,
            8 => Code::Partly,
            _ => Code::Failed,
        }
    }

    /// `OFFSHOOT0501`.
    pub(crate) fn identifier(self) -> String {
        format!("OFFSHOOT{:04}", self.number())
    }

    /// `OFFSHOOT0501`, `0501` or `501`.
    pub(crate) fn find(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let number: u16 = upper.strip_prefix("OFFSHOOT").unwrap_or(&upper).parse().ok()?;
        Self::ALL.iter().copied().find(|reason| reason.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn numbers_are_unique_and_begin_with_the_exit_code() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(u16::from(reason.code().number()), reason.number() / 100, "{reason:?}");
            assert!(Reason::ALL[..place].iter().all(|other| other.number() < reason.number()), "{reason:?}");
            assert_eq!(Reason::find(&reason.identifier()), Some(*reason));
            if reason.number() % 100 == 0 {
                assert_eq!(Reason::of(reason.code()), *reason);
            }
        }
        assert_eq!(Reason::find("0501"), Some(Reason::PoolFull));
        assert_eq!(Reason::find("nonsense"), None);
    }
}
