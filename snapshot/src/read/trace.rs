//! A snapshot's file, opened.

#[cfg(feature = "symbols")]
use super::Frame;
use super::container::catalog::{Catalog, FrameSpot, catalog};
use super::container::source::Source;
#[cfg(feature = "symbols")]
use super::container::splice::splice;
use super::decode::carried::Carry;
use super::decode::contents::Contents;
use super::decode::decode_plan::DecodePlan;
use super::decode::lost::{add_untold, share_out};
use super::replay::chain::{Chain, Left};
use super::replay::merge::Merge;
use super::{
    DecodedGeneration, Event, GenerationEvents, GenerationInfo, Lent, Limits, ReadError, Reason,
};
#[cfg(feature = "symbols")]
use crate::wire::CodeNames;
use crate::wire::{Generation, Metadata, Nanos, ProcessStacks};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A snapshot's file, opened: its metadata is read and its generations are found.
///
/// Generations are read from the file on demand, one at a time.
///
/// ```no_run
/// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
/// for event in trace.events() {
///     match event {
///         Ok(event) => println!("{} {} {}", event.time(), event.kind_name(), event.name()),
///         Err(damage) => eprintln!("{damage}"),
///     }
/// }
/// # Ok::<(), lookback_snapshot::ReadError>(())
/// ```
pub struct Trace {
    source: Source,
    file: Arc<str>,
    limits: Limits,
    plan: Arc<DecodePlan>,
    catalog: Catalog,
    /// The index of each generation among the frames.
    places: HashMap<Generation, usize>,
    generations: OnceLock<Vec<GenerationInfo>>,
    chain: Mutex<Chain>,
    decoded: AtomicU64,
}

impl Trace {
    /// Opens a file.
    ///
    /// # Errors
    /// The file cannot be opened, is not a snapshot, has a later format version, or nothing in it can be
    /// read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        Self::open_with(path, Limits::default())
    }

    /// Opens a file, with other limits.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, limits: Limits) -> Result<Self, ReadError> {
        let path = path.as_ref();
        let file = Arc::from(path.to_string_lossy());
        let source =
            Source::open(path).map_err(|error| ReadError::new(&file, 0, Reason::from(error)))?;
        Self::new(source, file, limits)
    }

    /// Reads a file that is in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        Self::from_bytes_with(bytes, Limits::default())
    }

    /// Reads a file that is in memory, with other limits.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes_with(bytes: Vec<u8>, limits: Limits) -> Result<Self, ReadError> {
        Self::new(Source::Memory(bytes), Arc::from("<memory>"), limits)
    }

    fn new(source: Source, file: Arc<str>, limits: Limits) -> Result<Self, ReadError> {
        let mut catalog = catalog(&source, &file, &limits)?;
        let (plan, wrong) = DecodePlan::new(&catalog.metadata);
        if let Some(wrong) = wrong {
            let reason = Reason::MetadataLost(wrong.to_owned());
            catalog.damage.push(ReadError::new(&file, 0, reason));
        }
        let places = places(&catalog);
        Ok(Self {
            source,
            file,
            limits,
            plan: Arc::new(plan),
            catalog,
            places,
            generations: OnceLock::new(),
            chain: Mutex::default(),
            decoded: AtomicU64::new(0),
        })
    }

    /// Only the generations that lie in this time, at least in part; in nanoseconds of the monotonic clock. Each of them says what
    /// was alive when it began, so the rest can be read, analysed and exported as any snapshot. The metadata is that of all.
    ///
    /// ```no_run
    /// # use lookback_snapshot::{Trace, wire::Nanos};
    /// let trace = Trace::open("incident.lbk")?;
    /// let end = trace.generations().last().map_or(Nanos(0), |last| Nanos(last.start.0 + last.duration.0));
    /// let last_second = trace.within(Nanos(end.0.saturating_sub(1_000_000_000)), end);
    /// # Ok::<(), lookback_snapshot::ReadError>(())
    /// ```
    #[must_use]
    pub fn within(mut self, since: Nanos, until: Nanos) -> Self {
        let is_in = |info: &GenerationInfo| {
            info.start <= until && info.start.0.saturating_add(info.duration.0) >= since.0
        };
        let mut infos = self.generations().to_vec();
        let mut kept = infos.iter().map(is_in).collect::<Vec<_>>().into_iter();
        infos.retain(is_in);
        // What cannot be read goes with what it follows.
        let mut is_kept = false;
        self.catalog.frames.retain(|frame| {
            if frame.is_ok() {
                is_kept = kept.next().unwrap_or(false);
            }
            is_kept
        });
        self.places = places(&self.catalog);
        self.generations = OnceLock::from(infos);
        self.chain = Mutex::default();
        self
    }

    /// What the snapshot says about itself and the process it comes from.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.catalog.metadata
    }

    /// The file's version of the format.
    #[must_use]
    pub fn format_version(&self) -> u16 {
        self.catalog.version
    }

    /// The file's path, or `<memory>`.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The stacks of the process's threads, if the snapshot was taken from outside: see [`ProcessStacks`].
    #[must_use]
    pub fn process_stacks(&self) -> Option<&ProcessStacks> {
        self.catalog.beside.stacks.as_ref()
    }

    /// The names for addresses in stacks that the file has, if any.
    #[cfg(feature = "symbols")]
    pub(crate) fn names(&self) -> Option<&Arc<CodeNames>> {
        self.catalog.beside.naming.names.as_ref()
    }

    /// Writes the file to `out` with these names in place of any that it has: a whole frame. The rest of it stays as it is.
    /// Returns how many bytes were written.
    #[cfg(feature = "symbols")]
    pub(crate) fn write_with_names(
        &self,
        names: &[u8],
        out: &mut impl std::io::Write,
    ) -> std::io::Result<u64> {
        splice(&self.source, &self.catalog.beside.naming, names, out)
    }

    /// The frames that are defined in the file, and those of stacks that were taken from outside; many of them more than
    /// once. What is damaged is passed over.
    #[cfg(feature = "symbols")]
    pub(crate) fn each_frame(&self, mut each: impl FnMut(&Frame<'_>)) {
        for spot in self.catalog.frames.iter().flatten() {
            if let Ok(contents) = self.contents(spot, None) {
                super::stack::frames_of(&contents).for_each(|frame| each(&frame));
            }
        }
        let stacks = self.process_stacks();
        stacks.iter().flat_map(|stacks| stacks.all_frames()).for_each(|frame| each(&frame));
    }

    /// The damage that was found when the file was opened. Damage inside a generation shows when that
    /// generation is read.
    #[must_use]
    pub fn damage(&self) -> &[ReadError] {
        &self.catalog.damage
    }

    /// The generations, in the order of the file. The first call reads each of them once, to count its
    /// events.
    #[must_use]
    pub fn generations(&self) -> &[GenerationInfo] {
        self.generations.get_or_init(|| {
            let spots = self.catalog.frames.iter().filter_map(|frame| frame.as_ref().ok());
            let (mut infos, mut told) = (Vec::new(), 0);
            for spot in spots {
                let (info, has_end) = match self.contents(spot, None) {
                    Ok(contents) => (contents.info, contents.end.is_some()),
                    Err(error) => (unreadable(spot, error), spot.complete),
                };
                infos.push(info);
                if has_end {
                    share_out(&mut infos[told..]);
                    told = infos.len();
                }
            }
            add_untold(&mut infos, told, self.metadata());
            end_where_the_next_begins(&mut infos);
            infos
        })
    }

    /// One generation, decoded. The generations before an incomplete one are read too, as far as it needs
    /// them.
    ///
    /// # Errors
    /// It is not in the file, or is damaged.
    pub fn generation(&self, number: Generation) -> Result<DecodedGeneration, ReadError> {
        let Some(&at) = self.places.get(&number) else {
            return Err(ReadError::new(&self.file, 0, Reason::NoGeneration(number)));
        };
        // Start at the nearest earlier generation that needs no other, or whose carry-over is known.
        let (mut first, mut left) = (at, None);
        while self.leans(first) {
            left = self.left_to(first);
            if left.is_some() {
                break;
            }
            first -= 1;
        }
        let mut left: Left = left.flatten();
        for (index, frame) in self.catalog.frames.iter().enumerate().take(at).skip(first) {
            let contents = frame.as_ref().ok().map(|spot| self.contents(spot, left.as_deref()));
            // Without its predecessor a generation has only its own statuses.
            left = contents
                .and_then(Result::ok)
                .map(|contents| Arc::new(Carry::of(&contents, &Merge::finished(&contents))));
            self.chain().keep(index + 1, &left);
        }
        let spot = self.catalog.frames[at].as_ref().map_err(Clone::clone)?;
        let mut contents = self.contents(spot, left.as_deref())?;
        if let Some(Ok(next)) = self.catalog.frames.get(at + 1)
            && let Some(entry) = next.entry.filter(|_| next.number == number.next())
        {
            contents.info.end_at(entry.began);
        }
        Ok(DecodedGeneration { contents: Arc::new(contents) })
    }

    /// What earlier generations leave to the one at this index, if known.
    fn left_to(&self, at: usize) -> Option<Left> {
        self.chain().get(at)
    }

    fn chain(&self) -> std::sync::MutexGuard<'_, Chain> {
        // Its contents are right even after a panic.
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many generations have been decoded so far: the cost of reading, for tests that hold it to a
    /// budget.
    #[doc(hidden)]
    #[must_use]
    pub fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Every event of every generation, in one order. Where something is damaged, an error takes the place of
    /// what was lost, and the events after it follow.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events { trace: self, next: 0, current: None, carry: None, latest: Nanos(0) }
    }

    /// Where the generations are in the file.
    pub(crate) fn spots(&self) -> impl Iterator<Item = &Result<FrameSpot, ReadError>> {
        self.catalog.frames.iter()
    }

    pub(crate) fn contents(
        &self,
        spot: &FrameSpot,
        carry: Option<&Carry>,
    ) -> Result<Contents, ReadError> {
        self.decoded.fetch_add(1, Ordering::Relaxed);
        let bytes = self
            .source
            .read(spot.offset, spot.compressed)
            .map_err(|error| ReadError::new(&self.file, spot.offset, error.into()))?;
        Contents::decode(&bytes, *spot, &self.file, &self.plan, &self.limits, carry)
    }

    /// Whether the generation at this index needs the one before it, and that one is there.
    fn leans(&self, at: usize) -> bool {
        let frames = &self.catalog.frames;
        let (Some(before), Some(Ok(spot))) = (at.checked_sub(1), frames.get(at)) else {
            return false;
        };
        let adjacent = |before: &FrameSpot| before.number.next() == spot.number;
        !spot.complete && frames[before].as_ref().is_ok_and(adjacent)
    }
}

fn places(catalog: &Catalog) -> HashMap<Generation, usize> {
    let mut places = HashMap::new();
    for (at, frame) in catalog.frames.iter().enumerate() {
        if let Ok(spot) = frame {
            places.entry(spot.number).or_insert(at);
        }
    }
    places
}

/// An incomplete generation that is followed by another one ended when that one began, whenever it was
/// copied.
fn end_where_the_next_begins(infos: &mut [GenerationInfo]) {
    for at in 1..infos.len() {
        if infos[at - 1].number.next() == infos[at].number && infos[at].start.0 > 0 {
            let next = infos[at].start;
            infos[at - 1].end_at(next);
        }
    }
}

fn unreadable(spot: &FrameSpot, error: ReadError) -> GenerationInfo {
    let entry = spot.entry;
    let start = entry.map_or(Nanos(0), |entry| entry.began);
    let end = entry.map_or(Nanos(0), |entry| entry.ended);
    GenerationInfo {
        complete: spot.complete,
        start,
        duration: Nanos(end.0.saturating_sub(start.0)),
        compressed: spot.compressed,
        offset: spot.offset,
        damage: Some(error),
        ..GenerationInfo::empty(spot.number)
    }
}

/// Every event of a file, in one order: generation by generation, and within each in the order of cause and
/// effect: by the numbers of tasks' transitions and, where those leave a choice, by time.
pub struct Events<'a> {
    trace: &'a Trace,
    next: usize,
    current: Option<GenerationEvents>,
    carry: Option<Carry>,
    latest: Nanos,
}

impl Events<'_> {
    /// Begins the next generation. Returns its error if it cannot be read.
    #[cold]
    fn open_next(&mut self) -> Option<Result<(), ReadError>> {
        let index = self.next;
        let frame = self.trace.catalog.frames.get(index)?;
        self.next += 1;
        let carry = self.carry.take();
        let opened = match frame {
            Err(error) => Err(error.clone()),
            Ok(spot) => self.trace.contents(spot, carry.as_ref()),
        };
        Some(opened.map(|contents| {
            let generation = DecodedGeneration { contents: Arc::new(contents) };
            self.current = Some(generation.events());
        }))
    }

    /// Notes what a finished generation leaves to the next one, if that one needs it.
    #[cold]
    fn close(&mut self, events: &GenerationEvents) {
        if self.trace.leans(self.next) {
            self.carry = Some(Carry::of(events.contents(), events.order()));
        }
    }
}

impl Events<'_> {
    /// Lends the next event until the next call, together with the state of its thread: the polls, spans and
    /// regions that it is inside, and which worker it is. The state is the one right after the event: after a
    /// region's begin the region is open, after a poll's end the poll is over.
    ///
    /// The [iterator](Self::next) returns the same events for the caller to keep, which takes longer;
    /// `event.clone()` keeps a lent one.
    ///
    /// ```no_run
    /// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
    /// let mut events = trace.events();
    /// while let Some(next) = events.lend() {
    ///     let lent = next?;
    ///     let within: Vec<_> = lent.state.regions().map(|region| region.site.name).collect();
    ///     println!("{} {}", lent.event.name(), within.join(" > "));
    /// }
    /// # Ok::<(), lookback_snapshot::ReadError>(())
    /// ```
    #[inline]
    pub fn lend(&mut self) -> Option<Result<Lent<'_>, ReadError>> {
        match self.step()? {
            Ok(()) => self.current.as_ref()?.lent().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }

    /// Advances to the next event.
    #[inline]
    fn step(&mut self) -> Option<Result<(), ReadError>> {
        loop {
            if let Some(events) = &mut self.current {
                if let Some(step) = events.step(&mut self.latest) {
                    return Some(step);
                }
                if let Some(events) = self.current.take() {
                    self.close(&events);
                }
            }
            if let Err(error) = self.open_next()? {
                return Some(Err(error));
            }
        }
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.step()? {
            Ok(()) => self.current.as_ref().map(|events| Ok(events.event())),
            Err(error) => Some(Err(error)),
        }
    }
}
