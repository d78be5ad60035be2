//! [`EndConfig`]: who is at a wire's end, as a text.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use device_bus::parse_yes_or_no;

use crate::config::{ConfigError, OpenError};
use crate::{
    End, Forward, ForwardRule, Loopback, Nobody, Pair, Player, Recorder, Stream, StreamAddress, Tap, Tester,
    Udp,
};

/// Frames that a loopback holds if nobody says otherwise: some milliseconds' worth.
const LOOPBACK_FRAMES: usize = 4096;

/// An end before it is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndConfig {
    /// Nobody: no link.
    Nobody,
    /// The wire comes back.
    Loopback {
        /// How many frames it holds.
        frames: usize,
    },
    /// A generator and sink.
    Tester {
        /// Its address.
        mac: [u8; 6],
    },
    /// Captures.
    Pcap {
        /// What is sent to the device.
        input: Option<PathBuf>,
        /// Where frames from the device go.
        output: Option<PathBuf>,
        /// As fast as the wire, in place of the capture's own times.
        is_fast: bool,
        /// Again and again.
        repeats: bool,
    },
    /// Another device's wire, in the same process.
    Pair {
        /// Where they meet.
        name: String,
    },
    /// A frame in each datagram.
    Udp {
        /// Where they are received.
        local: SocketAddr,
        /// Where they go.
        remote: SocketAddr,
    },
    /// Frames in a byte stream.
    Stream {
        /// Where it begins.
        address: StreamAddress,
        /// Whether others connect.
        listens: bool,
    },
    /// An interface of the host's.
    Tap {
        /// Its name.
        name: String,
    },
    /// A gateway.
    Forward {
        /// What it forwards.
        rules: Vec<ForwardRule>,
    },
}

impl EndConfig {
    /// What [`Self::parse`] knows, for messages and help.
    pub const FORMS: &str = "none, loopback[:frames=N], tester[:mac=MAC], \
                             pcap:in=FILE[+fast=yes][+loop=yes][+out=FILE], pair:NAME, udp:local=ADDRESS+remote=ADDRESS, \
                             stream:listen=ADDRESS, stream:connect=ADDRESS, \
                             tap:NAME, forward:tcp=PORT:GUEST:PORT[+tcp=...]";

    /// Reads `KIND` or `KIND:OPTIONS`; options are joined by `+`.
    ///
    /// # Errors
    /// [`ConfigError`], which says what was meant to be there.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (kind, options) = text.split_once(':').unwrap_or((text, ""));
        if kind == "pair" || kind == "tap" {
            let name = Some(options.to_owned()).filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| ConfigError::Lacks { kind: kind.into(), key: "a name" })?;
            return Ok(if kind == "pair" { Self::Pair { name } } else { Self::Tap { name } });
        }
        let mut options = Options::read(kind, options)?;
        let end = match kind {
            "none" => Self::Nobody,
            "loopback" => Self::Loopback { frames: options.number("frames", LOOPBACK_FRAMES)? },
            "tester" => Self::Tester { mac: options.take("mac").map_or(Ok(Tester::MAC), parse_mac)? },
            "pcap" => {
                let path = |text: Option<&str>| text.map(PathBuf::from);
                let (input, output) = (path(options.take("in")), path(options.take("out")));
                if input.is_none() && output.is_none() {
                    return Err(options.lacks("in=FILE or out=FILE"));
                }
                Self::Pcap {
                    input,
                    output,
                    is_fast: options.yes_or_no("fast")?,
                    repeats: options.yes_or_no("loop")?,
                }
            }
            "udp" => Self::Udp { local: options.socket("local")?, remote: options.socket("remote")? },
            "stream" => {
                let (listen, connect) = (options.take("listen"), options.take("connect"));
                let (text, listens) = match (listen, connect) {
                    (Some(text), None) => (text, true),
                    (None, Some(text)) => (text, false),
                    _ => return Err(options.lacks("either listen=ADDRESS or connect=ADDRESS")),
                };
                let address = match text.contains('/') {
                    true => StreamAddress::Unix(text.into()),
                    false => StreamAddress::Tcp(parse_socket(text)?),
                };
                Self::Stream { address, listens }
            }
            "forward" => {
                let texts = std::iter::from_fn(|| options.take("tcp"));
                Self::Forward { rules: texts.map(parse_forward).collect::<Result<_, _>>()? }
            }
            _ => return Err(ConfigError::Kind(kind.into())),
        };
        options.end(end)
    }

    /// Makes it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self) -> Result<Box<dyn End>, OpenError> {
        Ok(match self {
            Self::Nobody => Box::new(Nobody::default()),
            Self::Loopback { frames } => Box::new(Loopback::new(*frames)),
            Self::Tester { mac } => Box::new(Tester::new(*mac)),
            Self::Pcap { input, output, is_fast, repeats } => {
                let recorder = output.as_ref().map(|path| {
                    Recorder::new(path).map_err(OpenError::of(format!("the capture {}", path.display())))
                });
                let recorder = recorder.transpose()?;
                match (input, recorder) {
                    (Some(path), recorder) => Box::new(
                        Player::new(path, !is_fast, *repeats, recorder)
                            .map_err(OpenError::of(format!("the capture {}", path.display())))?,
                    ),
                    (None, Some(recorder)) => Box::new(recorder),
                    (None, None) => Box::new(Nobody::default()),
                }
            }
            Self::Pair { name } => {
                Box::new(Pair::join(name).map_err(OpenError::of(format!("the pair `{name}`")))?)
            }
            Self::Udp { local, remote } => {
                let what = format!("the UDP socket {local} to {remote}");
                Box::new(Udp::new(*local, *remote).map_err(OpenError::of(what))?)
            }
            Self::Stream { address, listens } => {
                let stream = if *listens { Stream::listen(address) } else { Stream::connect(address) };
                Box::new(stream.map_err(OpenError::of(format!("the stream {address}")))?)
            }
            Self::Tap { name } => {
                Box::new(Tap::open(name).map_err(OpenError::of(format!("the TAP interface {name}")))?)
            }
            Self::Forward { rules } => {
                Box::new(Forward::new(rules).map_err(OpenError::of("the gateway".into()))?)
            }
        })
    }
}

/// `KEY=VALUE` joined by `+`, of which each is taken once.
struct Options<'a> {
    kind: &'a str,
    left: Vec<(&'a str, &'a str)>,
}

impl<'a> Options<'a> {
    fn read(kind: &'a str, text: &'a str) -> Result<Self, ConfigError> {
        let items = text.split('+').filter(|item| !item.is_empty());
        let pairs = items.map(|item| item.split_once('=').ok_or_else(|| ConfigError::NoValue(item.into())));
        Ok(Self { kind, left: pairs.collect::<Result<_, _>>()? })
    }

    /// The first with this key.
    fn take(&mut self, key: &str) -> Option<&'a str> {
        let index = self.left.iter().position(|(name, _)| *name == key)?;
        Some(self.left.remove(index).1)
    }

    fn number(&mut self, key: &'static str, default: usize) -> Result<usize, ConfigError> {
        let Some(text) = self.take(key) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (1..=1 << 20).contains(number));
        number.ok_or_else(|| ConfigError::Number { key, text: text.into(), most: 1 << 20 })
    }

    fn yes_or_no(&mut self, key: &'static str) -> Result<bool, ConfigError> {
        let Some(text) = self.take(key) else { return Ok(false) };
        parse_yes_or_no(text).map_err(|error| ConfigError::Value { key, error })
    }

    fn socket(&mut self, key: &'static str) -> Result<SocketAddr, ConfigError> {
        let text = self.take(key).ok_or_else(|| self.lacks(key))?;
        parse_socket(text)
    }

    fn lacks(&self, key: &'static str) -> ConfigError {
        ConfigError::Lacks { kind: self.kind.into(), key }
    }

    /// All have been taken.
    fn end<T>(self, value: T) -> Result<T, ConfigError> {
        match self.left.first() {
            None => Ok(value),
            Some((key, _)) => Err(ConfigError::Option { kind: self.kind.into(), key: (*key).into() }),
        }
    }
}

/// `8080:10.0.2.15:80`.
fn parse_forward(text: &str) -> Result<ForwardRule, ConfigError> {
    let rule = text.split_once(':').and_then(|(port, guest)| {
        Some(ForwardRule { port: port.parse().ok()?, guest: guest.parse::<SocketAddrV4>().ok()? })
    });
    rule.ok_or_else(|| ConfigError::Forward(text.into()))
}

fn parse_socket(text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::Socket(text.into()))
}

/// Six bytes, `02:c0:00:00:00:01`, of one station.
///
/// # Errors
/// [`ConfigError::Mac`] for a text that is none, or the address of a group or of nobody.
pub fn parse_mac(text: &str) -> Result<[u8; 6], ConfigError> {
    let wrong = || ConfigError::Mac(text.into());
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        // A sign would pass for a digit.
        let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        let part = parts.next().filter(is_byte).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    let is_station = mac[0] & 1 == 0 && mac != [0; 6];
    if parts.next().is_none() && is_station { Ok(mac) } else { Err(wrong()) }
}
