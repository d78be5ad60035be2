//! The TOML form of a manifest, with the location of every entry for error messages.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Unexpected, Visitor};
use toml::Spanned;

use crate::shadow::{self, Shadow};
use crate::{
    CPU_PERCENT, DEADLINE_NS, DeviceSelector, Domain, KERNEL, Key, LOG_RATE, MachineDevice, Manifest,
    ManifestError, ManifestPart, NORMAL_PRIORITY, PAGE_BYTES, Policy, Problem, Restart, START_DEADLINE_NS,
    SizeError, parse_duration, parse_size,
};

/// A manifest that was read from TOML, and the locations of its parts.
pub struct TomlManifest {
    manifest: Manifest,
    text: String,
    system: Range<usize>,
    domains: Vec<Spans>,
    devices: Vec<MachineDevice>,
}

/// The locations of the entries of a `[[domain]]`, in bytes from the start of the file.
#[derive(Clone)]
struct Spans {
    name: Range<usize>,
    image: Option<Range<usize>>,
    parent: Option<Range<usize>>,
    restart: Option<Range<usize>>,
    restart_window: Option<Range<usize>>,
    restart_pause: Option<Range<usize>>,
    restart_pause_limit: Option<Range<usize>>,
    upcall_deadline: Option<Range<usize>>,
    shadow: Option<Range<usize>>,
    shadow_args: Option<Range<usize>>,
    heap: Option<Range<usize>>,
    shared: Option<Range<usize>>,
    kernel_heap: Option<Range<usize>>,
    threads: Option<Range<usize>>,
    priority: Option<Range<usize>>,
    stack: Option<Range<usize>>,
    deadline: Option<Range<usize>>,
    start_deadline: Option<Range<usize>>,
    cpu: Option<Range<usize>>,
    log_rate: Option<Range<usize>>,
    devices: Option<Range<usize>>,
    wires: BTreeMap<String, Range<usize>>,
}

/// An error in a manifest file, with its location.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TomlError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The error.
    pub problem: TomlProblem,
}

/// The kind of error in a manifest file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TomlProblem {
    /// Not TOML, or unknown keys or values; with the parser's message.
    Shape(String),
    /// Readable, but not runnable.
    Manifest(ManifestError),
}

impl fmt::Display for TomlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        match &self.problem {
            TomlProblem::Shape(message) => f.write_str(message),
            TomlProblem::Manifest(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for TomlError {}

impl TomlManifest {
    /// Reads and validates `text`. Sizes are rounded up to whole pages.
    pub fn parse(text: &str) -> Result<Self, TomlError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let problem = TomlProblem::Shape(error.message().to_string());
            locate(text, error.span().map_or(0, |span| span.start), problem)
        })?;
        let system = file.system.span();
        let System { name, description } = file.system.into_inner();
        let mut parsed = Self {
            manifest: Manifest { name, description, domains: Vec::new() },
            text: text.into(),
            system,
            domains: Vec::new(),
            devices: file.device.into_iter().map(|table| table.0).collect(),
        };
        let mut shadows = Vec::new();
        for table in file.domain {
            let shadow = table.shadow(parsed.domains.len());
            let (domain, spans) = table.split();
            parsed.manifest.domains.push(domain);
            parsed.domains.push(spans);
            shadows.push(shadow);
        }
        let checked = parsed.expand(shadows).and_then(|()| {
            parsed.set_default_deadlines();
            parsed.manifest.validate()
        });
        match checked {
            Ok(()) => Ok(parsed),
            Err(error) => Err(parsed.locate(error)),
        }
    }

    /// Adds the domains that entries request beside their own. Their errors are located at the requesting
    /// entry.
    fn expand(&mut self, shadows: Vec<Result<Option<Shadow>, Key>>) -> Result<(), ManifestError> {
        let mut wanted = Vec::new();
        for (index, shadow) in shadows.into_iter().enumerate() {
            wanted.extend(shadow.map_err(|key| self.manifest.error(index, key, Problem::ShadowOfNothing))?);
        }
        let spans: Vec<_> =
            wanted.iter().map(|shadow: &Shadow| self.domains[shadow.of].of_shadow()).collect();
        self.domains.extend(spans);
        shadow::insert(&mut self.manifest, wanted)
    }

    /// Gives a deadline to each domain whose entry has none: [`DEADLINE_NS`], or that of the slowest domain
    /// that it is wired to, if that is longer. It has no deadline if one of them has none.
    fn set_default_deadlines(&mut self) {
        let unset: Vec<usize> =
            (0..self.domains.len()).filter(|&index| self.domains[index].deadline.is_none()).collect();
        let domains = &mut self.manifest.domains;
        unset.iter().for_each(|&index| domains[index].deadline_ns = Some(DEADLINE_NS));
        // `None` is the longest. Each round reaches the clients of the domains that the last round changed; a
        // cycle of wires, which `validate` refuses, ends too.
        let longest = |a: Option<u64>, b: Option<u64>| Some(a?.max(b?));
        for _ in 0..domains.len() {
            let deadlines: BTreeMap<_, _> =
                domains.iter().map(|domain| (domain.name.clone(), domain.deadline_ns)).collect();
            for &index in &unset {
                let targets =
                    domains[index].wires.values().filter_map(|target| deadlines.get(target).copied());
                domains[index].deadline_ns = targets.fold(domains[index].deadline_ns, longest);
            }
        }
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the devices that the system requests for its machine.
    pub fn devices(&self) -> &[MachineDevice] {
        &self.devices
    }

    /// Returns the manifest without the locations.
    pub fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// Finds the line of `error`, which came from a check of this manifest.
    pub fn locate(&self, error: ManifestError) -> TomlError {
        let span = match &error.part {
            ManifestPart::System => &self.system,
            ManifestPart::Domain { index, key, .. } => self.domains[*index].of(key),
        };
        locate(&self.text, span.start, TomlProblem::Manifest(error))
    }
}

impl Spans {
    /// Returns the location of `key`; for an omitted entry that of the domain's name.
    fn of(&self, key: &Key) -> &Range<usize> {
        let entry = match key {
            Key::Name => None,
            Key::Image => self.image.as_ref(),
            Key::Parent => self.parent.as_ref(),
            Key::Restart => self.restart.as_ref(),
            Key::RestartWindow => self.restart_window.as_ref(),
            Key::RestartPause => self.restart_pause.as_ref(),
            Key::RestartPauseLimit => self.restart_pause_limit.as_ref(),
            Key::UpcallDeadline => self.upcall_deadline.as_ref(),
            Key::Shadow => self.shadow.as_ref(),
            Key::ShadowArgs => self.shadow_args.as_ref(),
            Key::Heap => self.heap.as_ref(),
            Key::Shared => self.shared.as_ref(),
            Key::KernelHeap => self.kernel_heap.as_ref(),
            Key::Threads => self.threads.as_ref(),
            Key::Priority => self.priority.as_ref(),
            Key::Stack => self.stack.as_ref(),
            Key::Deadline => self.deadline.as_ref(),
            Key::StartDeadline => self.start_deadline.as_ref(),
            Key::Cpu => self.cpu.as_ref(),
            Key::LogRate => self.log_rate.as_ref(),
            Key::Devices => self.devices.as_ref(),
            Key::Wire(import) => self.wires.get(import),
        };
        entry.unwrap_or(&self.name)
    }

    /// Returns the locations of the shadow that this entry requests.
    fn of_shadow(&self) -> Self {
        let name = self.restart.clone().unwrap_or_else(|| self.name.clone());
        Self { image: self.shadow.clone(), name, ..self.clone() }
    }
}

fn locate(text: &str, offset: usize, problem: TomlProblem) -> TomlError {
    // The parser's spans are in bytes and may point just past the end.
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    TomlError {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        problem,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    system: Spanned<System>,
    #[serde(default)]
    domain: Vec<DomainTable>,
    #[serde(default)]
    device: Vec<DeviceTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct System {
    name: String,
    description: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DomainTable {
    name: Spanned<String>,
    image: Option<Spanned<String>>,
    parent: Option<Spanned<String>>,
    restart: Option<Spanned<RestartWord>>,
    #[serde(rename = "restart-limit")]
    restart_limit: Option<u32>,
    #[serde(rename = "restart-window")]
    restart_window: Option<Spanned<Time>>,
    #[serde(rename = "restart-pause")]
    restart_pause: Option<Spanned<Time>>,
    #[serde(rename = "restart-pause-limit")]
    restart_pause_limit: Option<Spanned<Time>>,
    #[serde(rename = "upcall-deadline")]
    upcall_deadline: Option<Spanned<Time>>,
    shadow: Option<Spanned<String>>,
    #[serde(rename = "shadow-args")]
    shadow_args: Option<Spanned<Vec<String>>>,
    heap: Option<Spanned<Size>>,
    shared: Option<Spanned<Size>>,
    #[serde(rename = "kernel-heap")]
    kernel_heap: Option<Spanned<Size>>,
    threads: Option<Spanned<u32>>,
    priority: Option<Spanned<u8>>,
    stack: Option<Spanned<Size>>,
    deadline: Option<Spanned<Limit<Time>>>,
    #[serde(rename = "start-deadline")]
    start_deadline: Option<Spanned<Time>>,
    cpu: Option<Spanned<Limit<u32>>>,
    #[serde(rename = "log-rate")]
    log_rate: Option<Spanned<Limit<u32>>>,
    #[serde(default)]
    args: Vec<String>,
    devices: Option<Spanned<Vec<Selector>>>,
    #[serde(default)]
    wires: BTreeMap<Spanned<String>, String>,
}

/// The values of `restart`.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RestartWord {
    Never,
    Always,
    /// Like `always`, behind a shadow that hides the restarts.
    Transparent,
}

impl DomainTable {
    /// Returns the shadow that entry number `index` requests; or the key that it must not have.
    fn shadow(&self, index: usize) -> Result<Option<Shadow>, Key> {
        if self.restart.as_ref().is_some_and(|word| *word.get_ref() == RestartWord::Transparent) {
            let image = self.shadow.as_ref().map(|image| image.get_ref().clone());
            let args = self.shadow_args.as_ref().map(|args| args.get_ref().clone()).unwrap_or_default();
            return Ok(Some(Shadow { of: index, image, args }));
        }
        match (&self.shadow, &self.shadow_args) {
            (None, None) => Ok(None),
            (Some(_), _) => Err(Key::Shadow),
            (None, Some(_)) => Err(Key::ShadowArgs),
        }
    }

    /// Separates values from locations, and fills in the defaults.
    fn split(self) -> (Domain, Spans) {
        let spans = Spans {
            name: self.name.span(),
            image: self.image.as_ref().map(Spanned::span),
            parent: self.parent.as_ref().map(Spanned::span),
            restart: self.restart.as_ref().map(Spanned::span),
            restart_window: self.restart_window.as_ref().map(Spanned::span),
            restart_pause: self.restart_pause.as_ref().map(Spanned::span),
            restart_pause_limit: self.restart_pause_limit.as_ref().map(Spanned::span),
            upcall_deadline: self.upcall_deadline.as_ref().map(Spanned::span),
            shadow: self.shadow.as_ref().map(Spanned::span),
            shadow_args: self.shadow_args.as_ref().map(Spanned::span),
            heap: self.heap.as_ref().map(Spanned::span),
            shared: self.shared.as_ref().map(Spanned::span),
            kernel_heap: self.kernel_heap.as_ref().map(Spanned::span),
            threads: self.threads.as_ref().map(Spanned::span),
            priority: self.priority.as_ref().map(Spanned::span),
            stack: self.stack.as_ref().map(Spanned::span),
            deadline: self.deadline.as_ref().map(Spanned::span),
            start_deadline: self.start_deadline.as_ref().map(Spanned::span),
            cpu: self.cpu.as_ref().map(Spanned::span),
            log_rate: self.log_rate.as_ref().map(Spanned::span),
            devices: self.devices.as_ref().map(Spanned::span),
            wires: self.wires.keys().map(|import| (import.get_ref().clone(), import.span())).collect(),
        };
        let size = |given: Option<Spanned<Size>>, default| given.map_or(default, |size| size.into_inner().0);
        let time = |given: Option<Spanned<Time>>, default| given.map_or(default, |time| time.into_inner().0);
        let limit = |given: Option<Spanned<Limit<u32>>>, default| {
            given.map_or(Some(default), |limit| limit.into_inner().0)
        };
        let default = Policy::default();
        let domain = Domain {
            image: self.image.map_or_else(|| self.name.get_ref().clone(), Spanned::into_inner),
            name: self.name.into_inner(),
            parent: self.parent.map_or_else(|| KERNEL.into(), Spanned::into_inner),
            restart: match self.restart.map(Spanned::into_inner) {
                None | Some(RestartWord::Never) => Restart::Never,
                Some(RestartWord::Always | RestartWord::Transparent) => Restart::Always,
            },
            policy: Policy {
                restart_limit: self.restart_limit.unwrap_or(default.restart_limit),
                restart_window_ns: time(self.restart_window, default.restart_window_ns),
                restart_pause_ns: time(self.restart_pause, default.restart_pause_ns),
                restart_pause_limit_ns: time(self.restart_pause_limit, default.restart_pause_limit_ns),
                upcall_deadline_ns: time(self.upcall_deadline, default.upcall_deadline_ns),
            },
            heap_bytes: size(self.heap, 4 << 20),
            shared_bytes: size(self.shared, 16 << 20),
            kernel_heap_bytes: size(self.kernel_heap, 1 << 20),
            threads: self.threads.map_or(16, Spanned::into_inner),
            priority: self.priority.map_or(NORMAL_PRIORITY, Spanned::into_inner),
            stack_bytes: size(self.stack, 128 << 10),
            // `set_default_deadlines` completes an omitted one.
            deadline_ns: self.deadline.and_then(|limit| limit.into_inner().0).map(|time| time.0),
            start_deadline_ns: self.start_deadline.map_or(START_DEADLINE_NS, |time| time.into_inner().0),
            cpu_percent: limit(self.cpu, CPU_PERCENT),
            log_rate: limit(self.log_rate, LOG_RATE),
            args: self.args,
            devices: self.devices.map_or_else(Vec::new, |devices| {
                devices.into_inner().into_iter().map(|selector| selector.0).collect()
            }),
            wires: self.wires.into_iter().map(|(import, target)| (import.into_inner(), target)).collect(),
        };
        (domain, spans)
    }
}

/// Bytes, in whole pages.
struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"4 MiB\", or a number of bytes")
    }

    fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
        let bytes = u64::try_from(bytes).map_err(|_| E::custom(SizeError::Negative(bytes)))?;
        self.visit_u64(bytes)
    }

    fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
        bytes.checked_next_multiple_of(PAGE_BYTES).map(Size).ok_or_else(|| E::custom(SizeError::TooLarge))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
        parse_size(text).map_err(E::custom).and_then(|bytes| self.visit_u64(bytes))
    }
}

/// A limit, or `"none"`.
struct Limit<T>(Option<T>);

impl<'de> Deserialize<'de> for Limit<u32> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberLimitVisitor)
    }
}

struct NumberLimitVisitor;

impl Visitor<'_> for NumberLimitVisitor {
    type Value = Limit<u32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or \"none\"")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Limit<u32>, E> {
        let number =
            u32::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))?;
        Ok(Limit(Some(number)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Limit<u32>, E> {
        if text == NO_LIMIT { Ok(Limit(None)) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
    }
}

impl<'de> Deserialize<'de> for Limit<Time> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeLimitVisitor)
    }
}

struct TimeLimitVisitor;

impl Visitor<'_> for TimeLimitVisitor {
    type Value = Limit<Time>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"5 ms\", or \"none\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Limit<Time>, E> {
        if text == NO_LIMIT { Ok(Limit(None)) } else { TimeVisitor.visit_str(text).map(Some).map(Limit) }
    }
}

/// The word for no limit.
const NO_LIMIT: &str = "none";

/// A device that is granted.
struct Selector(DeviceSelector);

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Selector).map_err(serde::de::Error::custom)
    }
}

/// A requested device of the machine: `model`, and options of that model, each a text.
struct DeviceTable(MachineDevice);

impl<'de> Deserialize<'de> for DeviceTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut options = BTreeMap::<String, String>::deserialize(deserializer)?;
        let model = options.remove("model").ok_or_else(|| serde::de::Error::missing_field("model"))?;
        Ok(Self(MachineDevice { model, options }))
    }
}

/// Nanoseconds.
struct Time(u64);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"5 ms\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Time, E> {
        parse_duration(text).map(Time).map_err(E::custom)
    }
}

#[cfg(test)]
pub(crate) mod tests;
