//! What a thread is doing in the kernel, by `/proc/PID/task/TID/syscall`: the number of a call and its arguments, the
//! stack pointer and the program counter.

#![forbid(unsafe_code)]

use crate::os::read_memory::ReadMemory;
use lookback_snapshot::wire::{Waits, WaitsOn};
use std::fs;
use std::os::unix::ffi::OsStrExt;

/// The longest name of a file to keep.
const MOST_OF_NAME: usize = 256;

/// Where a thread is, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Runs,
    /// It does not run. The call is none if it was interrupted outside of one.
    Blocked {
        call: Option<(i64, [u64; 6])>,
        sp: u64,
        pc: u64,
    },
}

impl Place {
    pub(crate) fn parse(said: &str) -> Option<Self> {
        if said.trim_end() == "running" {
            return Some(Self::Runs);
        }
        let mut words = said.split_whitespace();
        let call = words.next()?.parse::<i64>().ok()?;
        let mut number = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        let mut arguments = [0; 6];
        if call >= 0 {
            for argument in &mut arguments {
                *argument = number()?;
            }
        }
        let (sp, pc) = (number()?, number()?);
        Some(Self::Blocked { call: (call >= 0).then_some((call, arguments)), sp, pc })
    }
}

/// What the arguments of a call say.
enum Said {
    /// It waits for a word of memory.
    Futex,
    /// For what the descriptor in the first argument is; at most for the time to which this argument points.
    File,
    /// As above, for a number of milliseconds, unless that is negative.
    FileWithin(usize),
    /// As above, for the time to which this argument points, if it does.
    FileWithinPointed(usize),
    /// For a number of milliseconds, unless that is negative.
    Within(usize),
    /// For the time to which this argument points, if it does.
    WithinPointed(usize),
    /// For a time.
    Time,
    /// Nothing more.
    Nothing,
}

/// What is known of a call: its name, and what its arguments say.
fn known(call: i64) -> Option<(&'static str, Said)> {
    macro_rules! calls {
        ($($(#[$when:meta])? $number:ident $name:literal $said:expr,)*) => {
            $($(#[$when])? if call == libc::$number { return Some(($name, $said)); })*
        };
    }
    calls! {
        SYS_futex "futex" Said::Futex,
        #[cfg(target_arch = "x86_64")] SYS_epoll_wait "epoll_wait" Said::FileWithin(3),
        SYS_epoll_pwait "epoll_pwait" Said::FileWithin(3),
        SYS_epoll_pwait2 "epoll_pwait2" Said::FileWithinPointed(3),
        #[cfg(target_arch = "x86_64")] SYS_poll "poll" Said::Within(2),
        SYS_ppoll "ppoll" Said::WithinPointed(2),
        #[cfg(target_arch = "x86_64")] SYS_select "select" Said::WithinPointed(4),
        SYS_pselect6 "pselect6" Said::WithinPointed(4),
        SYS_nanosleep "nanosleep" Said::Time,
        SYS_clock_nanosleep "clock_nanosleep" Said::Time,
        SYS_restart_syscall "restart_syscall" Said::Nothing,
        SYS_read "read" Said::File,
        SYS_readv "readv" Said::File,
        SYS_pread64 "pread64" Said::File,
        SYS_write "write" Said::File,
        SYS_writev "writev" Said::File,
        SYS_pwrite64 "pwrite64" Said::File,
        SYS_recvfrom "recvfrom" Said::File,
        SYS_recvmsg "recvmsg" Said::File,
        SYS_recvmmsg "recvmmsg" Said::FileWithinPointed(4),
        SYS_sendto "sendto" Said::File,
        SYS_sendmsg "sendmsg" Said::File,
        SYS_accept "accept" Said::File,
        SYS_accept4 "accept4" Said::File,
        SYS_connect "connect" Said::File,
        SYS_sendfile "sendfile" Said::File,
        SYS_splice "splice" Said::File,
        SYS_fsync "fsync" Said::File,
        SYS_fdatasync "fdatasync" Said::File,
        SYS_flock "flock" Said::File,
        SYS_fcntl "fcntl" Said::File,
        SYS_ioctl "ioctl" Said::File,
        SYS_ftruncate "ftruncate" Said::File,
        SYS_fallocate "fallocate" Said::File,
        SYS_getdents64 "getdents64" Said::File,
        SYS_io_uring_enter "io_uring_enter" Said::File,
        SYS_wait4 "wait4" Said::Nothing,
        SYS_waitid "waitid" Said::Nothing,
        SYS_rt_sigtimedwait "rt_sigtimedwait" Said::WithinPointed(2),
        SYS_rt_sigsuspend "rt_sigsuspend" Said::Nothing,
        #[cfg(target_arch = "x86_64")] SYS_pause "pause" Said::Nothing,
        SYS_openat "openat" Said::Nothing,
        SYS_munmap "munmap" Said::Nothing,
        SYS_madvise "madvise" Said::Nothing,
        SYS_mmap "mmap" Said::Nothing,
        SYS_msync "msync" Said::Nothing,
        SYS_io_getevents "io_getevents" Said::WithinPointed(4),
        SYS_semtimedop "semtimedop" Said::WithinPointed(3),
        SYS_msgrcv "msgrcv" Said::Nothing,
        SYS_mq_timedreceive "mq_timedreceive" Said::FileWithinPointed(4),
    }
    None
}

/// What a thread waits for in this call. `is_thread` says whether a number is that of a thread of the process.
pub(crate) fn waits(
    pid: u32,
    memory: impl ReadMemory,
    (call, arguments): (i64, [u64; 6]),
    is_thread: &dyn Fn(u32) -> bool,
) -> Waits {
    let Some((name, said)) = known(call) else {
        return Waits::new(format!("system call {call}"), false, WaitsOn::Unknown);
    };
    let is_within = |at: usize| (arguments[at] as u32).cast_signed() >= 0;
    let points = |at: usize| arguments[at] != 0;
    let file = || {
        let descriptor = arguments[0] as u32;
        WaitsOn::File { descriptor, what: what_is(pid, descriptor) }
    };
    let (is_timed, on) = match said {
        Said::Futex => {
            (points(3) && takes_time(arguments[1]), futex(memory, arguments[0], is_thread))
        }
        Said::File => (false, file()),
        Said::FileWithin(at) => (is_within(at), file()),
        Said::FileWithinPointed(at) => (points(at), file()),
        Said::Within(at) => (is_within(at), WaitsOn::Unknown),
        Said::WithinPointed(at) => (points(at), WaitsOn::Unknown),
        Said::Time => (true, WaitsOn::Time),
        Said::Nothing => (false, WaitsOn::Unknown),
    };
    Waits::new(name, is_timed, on)
}

/// Whether the fourth argument of this operation on a futex is a time.
fn takes_time(operation: u64) -> bool {
    const FLAGS: i32 = libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME;
    const WITH: [i32; 5] = [
        libc::FUTEX_WAIT,
        libc::FUTEX_WAIT_BITSET,
        libc::FUTEX_LOCK_PI,
        libc::FUTEX_WAIT_REQUEUE_PI,
        libc::FUTEX_LOCK_PI2,
    ];
    WITH.contains(&((operation as u32).cast_signed() & !FLAGS))
}

fn futex(memory: impl ReadMemory, address: u64, is_thread: &dyn Fn(u32) -> bool) -> WaitsOn {
    let mut room = [0; 12];
    let found = memory.copy(address, &mut room);
    let word_at = |at: usize| {
        let bytes = found.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
        bytes.map(|bytes| u32::from_ne_bytes(*bytes))
    };
    let owner = word_at(8).filter(|number| *number > 0 && is_thread(*number));
    WaitsOn::Futex { address, word: word_at(0).unwrap_or_default(), owner }
}

/// What a descriptor of the process is.
fn what_is(pid: u32, descriptor: u32) -> String {
    let link = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap_or_default();
    let link = String::from_utf8_lossy(link.as_os_str().as_bytes()).into_owned();
    crate::text::cut(&link, MOST_OF_NAME).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::memory::OutsideMemory;
    use super::*;

    #[test]
    fn what_the_kernel_says_is_understood_and_nothing_else() {
        let said = "202 0x7f 0x80 0x2 0x0 0x0 0xffffffff 0x7fff00 0x7fff10\n";
        let call = Some((202, [0x7f, 0x80, 2, 0, 0, 0xffff_ffff]));
        let place = Place::Blocked { call, sp: 0x007f_ff00, pc: 0x007f_ff10 };
        assert_eq!(Place::parse(said), Some(place));
        let place = Place::Blocked { call: None, sp: 16, pc: 32 };
        assert_eq!(Place::parse("-1 0x10 0x20"), Some(place));
        assert_eq!(Place::parse("running\n"), Some(Place::Runs));
        for odd in ["", "7", "x 0x1 0x2", "7 0x1 0x2 0x3", "-1 10 20", "-1 0x1"] {
            assert_eq!(Place::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_wait_says_for_what_and_whether_it_ends_by_itself() {
        let file = fs::File::open("/proc/self/mem").unwrap();
        let (memory, word) = (OutsideMemory(&file), [2_u32, 0, 17]);
        let address = word.as_ptr() as u64;
        let of =
            |call, arguments| waits(std::process::id(), memory, (call, arguments), &|it| it == 17);
        let futex = of(libc::SYS_futex, [address, 0x80, 2, 0, 0, 0]);
        let on = WaitsOn::Futex { address, word: 2, owner: Some(17) };
        assert_eq!(futex, Waits::new("futex", false, on.clone()));
        assert_eq!(
            of(libc::SYS_futex, [address, 0x189, 2, 1, 0, 0]),
            Waits::new("futex", true, on)
        );
        let input = of(libc::SYS_read, [0; 6]);
        assert!(matches!(input.on, WaitsOn::File { descriptor: 0, what } if !what.is_empty()));
        let epoll = |time: i32| {
            of(libc::SYS_epoll_pwait, [9999, 0, 0, u64::from(time.cast_unsigned()), 0, 0])
        };
        assert_eq!((epoll(-1).is_timed, epoll(5).is_timed), (false, true));
        assert_eq!(of(libc::SYS_nanosleep, [0; 6]).on, WaitsOn::Time);
        assert_eq!(of(9999, [0; 6]).call, "system call 9999");
    }
}
