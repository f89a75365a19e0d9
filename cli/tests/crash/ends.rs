//! The ways in which a process ends.

use super::service::Child;

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGKILL, as sent by the kernel when memory runs out, or by an orchestrator.
    Kill,
    /// A store to an address that is not mapped.
    Fault,
    /// `std::process::abort`.
    Abort,
    /// The main thread panics, and everything is dropped.
    Unwind,
    /// A panic that cannot unwind and aborts, as with `panic = "abort"`.
    PanicAbort,
    /// `std::process::exit`, without stopping the recorder.
    Exit,
    /// Memory runs out, by a limit of the process.
    Limit,
    /// Memory runs out, and the kernel kills, if cgroups are available.
    Cgroup,
    /// Stopped first, and then killed.
    StopKill,
}

impl End {
    pub const ALL: [Self; 9] = [
        Self::Kill,
        Self::Fault,
        Self::Abort,
        Self::Unwind,
        Self::PanicAbort,
        Self::Exit,
        Self::Limit,
        Self::Cgroup,
        Self::StopKill,
    ];

    /// The letter that tells a child to end itself like this.
    pub fn order(self) -> Option<u8> {
        Some(match self {
            Self::Kill | Self::StopKill => return None,
            Self::Fault => b'f',
            Self::Abort => b'a',
            Self::Unwind => b'u',
            Self::PanicAbort => b'p',
            Self::Exit => b'e',
            Self::Limit => b'l',
            Self::Cgroup => b'c',
        })
    }

    /// Ends the child.
    pub fn bring_about(self, child: &Child) {
        let signal = |signal| {
            // SAFETY: the child was not waited for yet, so its ID is still its own.
            assert_eq!(unsafe { libc::kill(child.service, signal) }, 0);
        };
        match (self, self.order()) {
            (_, Some(order)) => child.order(order),
            (Self::StopKill, _) => {
                signal(libc::SIGSTOP);
                std::thread::sleep(std::time::Duration::from_millis(2));
                signal(libc::SIGKILL);
            }
            _ => signal(libc::SIGKILL),
        }
    }
}

/// Ends this process as ordered, except for [`End::Unwind`].
pub fn obey(order: u8) {
    match order {
        // SAFETY: none; that is what it is for.
        b'f' => unsafe { std::ptr::without_provenance_mut::<u8>(0x10).write_volatile(1) },
        b'a' => std::process::abort(),
        b'p' => cannot_unwind(),
        b'e' => std::process::exit(3),
        b'l' => {
            let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
            // SAFETY: a valid limit.
            unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
            eat();
        }
        b'c' => eat(),
        _ => {}
    }
}

extern "C" fn cannot_unwind() {
    panic!("a panic where none may unwind");
}

/// Takes memory until there is none.
fn eat() {
    let mut eaten = Vec::new();
    // If nothing kills it, it kills itself in the same way.
    for _ in 0..64 {
        eaten.push(vec![1_u8; 8 << 20]);
    }
    // SAFETY: sends a signal to this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    std::hint::black_box(&eaten);
}
