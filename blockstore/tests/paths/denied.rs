//! Makes system calls fail for one thread, through a seccomp filter, which ends with the thread.

use std::thread;

/// Runs `work` in a thread in which these system calls do nothing and fail with this error.
pub(crate) fn with_failing<T: Send>(
    calls: &[libc::c_long],
    errno: i32,
    work: impl FnOnce() -> T + Send,
) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            install(&filter(calls, errno));
            work()
        });
        thread.join().expect("the thread does its work")
    })
}

/// For each call: if its number is this one, return the error. Otherwise all is allowed.
fn filter(calls: &[libc::c_long], errno: i32) -> Vec<libc::sock_filter> {
    let errno = u32::try_from(errno).expect("errors are positive");
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for call in calls {
        let number = u32::try_from(*call).expect("calls have small numbers");
        program.push(libc::sock_filter {
            jf: 1,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number)
        });
        program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program
}

fn statement(code: u32, operand: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).expect("codes are short"), jt: 0, jf: 0, k: operand }
}

fn install(program: &[libc::sock_filter]) {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("a short program"),
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: sets a flag of the calling thread.
    let no_privileges = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(no_privileges, 0);
    // SAFETY: the kernel copies the program, which lives to the end of the call, and only this thread gets it.
    let installed =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(installed, 0, "{}", std::io::Error::last_os_error());
}
