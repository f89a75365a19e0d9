//! The counters of the machine, the control group, the process and its runtimes that the recorder reads once a generation: one
//! table for their codes, names and units.

/// What a counter's value is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CounterUnit {
    /// Bytes.
    Bytes,
    /// A number of things.
    Count,
    /// Nanoseconds.
    Nanos,
}

impl CounterUnit {
    /// Its name in `--json`: `bytes`, `count` or `ns`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Count => "count",
            Self::Nanos => "ns",
        }
    }
}

/// Counters that are read together, and turned on and off together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CounterGroup {
    /// The memory of the process.
    Memory,
    /// Its page faults, context switches and CPU time.
    Process,
    /// Its open descriptors.
    Descriptors,
    /// What it reads from and writes to storage.
    Storage,
    /// How long tasks of the machine or the control group stood still for want of something (PSI).
    Pressure,
    /// The CPU and memory limits of its control group, and how often they took effect.
    Cgroup,
    /// TCP in its network namespace.
    Network,
    /// The machine, as its hypervisor lets it run.
    Machine,
    /// The runtimes of executors, as they count themselves.
    Runtime,
}

impl CounterGroup {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Memory,
        Self::Process,
        Self::Descriptors,
        Self::Storage,
        Self::Pressure,
        Self::Cgroup,
        Self::Network,
        Self::Machine,
        Self::Runtime,
    ];

    /// Its name in settings and in the names of settings' values.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Descriptors => "descriptors",
            Self::Storage => "storage",
            Self::Pressure => "pressure",
            Self::Cgroup => "cgroup",
            Self::Network => "network",
            Self::Machine => "machine",
            Self::Runtime => "runtime",
        }
    }
}

macro_rules! system_counters {
    ($($(#[$doc:meta])* $code:literal $variant:ident $name:literal $group:ident $unit:ident $how:ident;)*) => {
        /// A counter of the machine, the control group or the process, which the recorder reads once a generation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum SystemCounter { $($(#[$doc])* $variant = $code,)* }

        impl SystemCounter {
            /// All of them, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The counter of this code, if this version knows it.
            #[must_use]
            pub const fn from_code(code: u64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// With what it is read.
            #[must_use]
            pub const fn group(self) -> CounterGroup {
                match self { $(Self::$variant => CounterGroup::$group,)* }
            }

            /// What its value is measured in.
            #[must_use]
            pub const fn unit(self) -> CounterUnit {
                match self { $(Self::$variant => CounterUnit::$unit,)* }
            }

            /// Whether a value is what was added since the reading before; otherwise it is what was there at the reading.
            #[must_use]
            pub const fn is_increase(self) -> bool {
                match self { $(Self::$variant => system_counters!(@$how),)* }
            }
        }
    };
    (@Increase) => { true };
    (@Level) => { false };
}

system_counters! {
    /// Resident memory.
    1 Resident "memory.resident" Memory Bytes Level;
    /// Resident memory that no file backs: heap, stacks.
    2 Anonymous "memory.anonymous" Memory Bytes Level;
    /// Mapped memory, resident or not.
    3 Virtual "memory.virtual" Memory Bytes Level;

    /// Page faults that needed no storage.
    8 MinorFaults "process.minor_faults" Process Count Increase;
    /// Page faults that had to read from storage.
    9 MajorFaults "process.major_faults" Process Count Increase;
    /// Context switches because a thread waited.
    10 VoluntarySwitches "process.voluntary_switches" Process Count Increase;
    /// Context switches because another thread's turn came.
    11 InvoluntarySwitches "process.involuntary_switches" Process Count Increase;
    /// CPU time in the program.
    12 UserTime "process.user_time" Process Nanos Increase;
    /// CPU time in the kernel.
    13 SystemTime "process.system_time" Process Nanos Increase;
    /// The most memory that was ever resident.
    14 PeakResident "process.peak_resident" Process Bytes Level;

    /// Open descriptors.
    16 Descriptors "descriptors.open" Descriptors Count Level;
    /// How many may be open.
    17 DescriptorLimit "descriptors.limit" Descriptors Count Level;

    /// What was read from storage.
    20 StorageRead "storage.read" Storage Bytes Increase;
    /// What was written to storage, or is to be.
    21 StorageWritten "storage.written" Storage Bytes Increase;

    /// Some tasks of the machine waited for a core.
    24 CpuSome "pressure.cpu.some" Pressure Nanos Increase;
    /// Some tasks of the machine waited for memory.
    25 MemorySome "pressure.memory.some" Pressure Nanos Increase;
    /// All tasks of the machine that had something to do waited for memory.
    26 MemoryFull "pressure.memory.full" Pressure Nanos Increase;
    /// Some tasks of the machine waited for storage.
    27 IoSome "pressure.io.some" Pressure Nanos Increase;
    /// All tasks of the machine that had something to do waited for storage.
    28 IoFull "pressure.io.full" Pressure Nanos Increase;
    /// Some tasks of the control group waited for a core.
    29 CgroupCpuSome "pressure.cgroup.cpu.some" Pressure Nanos Increase;
    /// All tasks of the control group that had something to do waited for a core: it was throttled.
    30 CgroupCpuFull "pressure.cgroup.cpu.full" Pressure Nanos Increase;
    /// Some tasks of the control group waited for memory.
    31 CgroupMemorySome "pressure.cgroup.memory.some" Pressure Nanos Increase;
    /// All tasks of the control group that had something to do waited for memory.
    32 CgroupMemoryFull "pressure.cgroup.memory.full" Pressure Nanos Increase;
    /// Some tasks of the control group waited for storage.
    33 CgroupIoSome "pressure.cgroup.io.some" Pressure Nanos Increase;
    /// All tasks of the control group that had something to do waited for storage.
    34 CgroupIoFull "pressure.cgroup.io.full" Pressure Nanos Increase;

    /// Periods of the group's CPU limit in which it ran.
    40 Periods "cgroup.cpu.periods" Cgroup Count Increase;
    /// Those in which the limit stopped it.
    41 ThrottledPeriods "cgroup.cpu.throttled" Cgroup Count Increase;
    /// For how long it was stopped, added up over cores.
    42 ThrottledTime "cgroup.cpu.throttled_time" Cgroup Nanos Increase;
    /// The group's memory.
    43 CgroupMemory "cgroup.memory" Cgroup Bytes Level;
    /// Its limit.
    44 CgroupMemoryLimit "cgroup.memory.limit" Cgroup Bytes Level;
    /// Above this its threads are slowed down.
    45 CgroupMemoryHigh "cgroup.memory.high" Cgroup Bytes Level;
    /// How often that happened.
    46 HighEvents "cgroup.memory.high_events" Cgroup Count Increase;
    /// How often the limit was reached.
    47 LimitEvents "cgroup.memory.limit_events" Cgroup Count Increase;
    /// Processes of the group that the kernel killed for want of memory.
    48 OomKills "cgroup.memory.oom_kills" Cgroup Count Increase;

    /// TCP segments sent.
    56 TcpSent "network.tcp.sent" Network Count Increase;
    /// Those that were sent again.
    57 TcpRetransmitted "network.tcp.retransmitted" Network Count Increase;
    /// Connections that a full queue of `accept` turned away.
    58 ListenOverflows "network.listen.overflows" Network Count Increase;
    /// Connections that were dropped before `accept`, for any reason.
    59 ListenDrops "network.listen.drops" Network Count Increase;

    /// For how long the hypervisor let others run instead, added up over cores.
    64 Steal "machine.steal" Machine Nanos Increase;

    /// Tasks that were spawned on the runtime and have not ended.
    72 AliveTasks "runtime.alive_tasks" Runtime Count Level;
    /// Tasks that are ready and wait in the queue of all workers.
    73 QueuedTasks "runtime.queued_tasks" Runtime Count Level;
    /// The runtime's workers.
    74 Workers "runtime.workers" Runtime Count Level;
    /// For how long workers were busy, added up over workers.
    75 WorkersBusy "runtime.workers_busy" Runtime Nanos Increase;
    /// For how long the busiest of them was.
    76 BusiestWorker "runtime.busiest_worker" Runtime Nanos Increase;
    /// How often workers went to sleep.
    77 Parks "runtime.parks" Runtime Count Increase;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_and_names_are_unique_and_each_group_has_some() {
        let all = SystemCounter::ALL;
        assert!(all.windows(2).all(|pair| (pair[0] as u8) < pair[1] as u8));
        assert!(all.iter().all(|one| SystemCounter::from_code(*one as u64) == Some(*one)));
        assert_eq!(all.iter().map(|one| one.name()).collect::<BTreeSet<_>>().len(), all.len());
        for group in CounterGroup::ALL {
            let of = all.iter().filter(|one| one.group() == group);
            assert!(of.clone().count() > 0, "{group:?}");
            assert!(of.clone().all(|one| one.name().split('.').next() == Some(group.name())));
        }
        assert_eq!((SystemCounter::from_code(0), SystemCounter::from_code(1 << 40)), (None, None));
    }
}
