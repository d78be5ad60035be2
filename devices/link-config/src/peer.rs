//! [`PeerConfig`]: the peer of a wire, as a text describes it.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use device_bus::parse_yes_or_no;
use device_host_net::{ForwardRule, Stream, StreamAddress, Tap, Udp, UserNet};
use device_link::{Loopback, NullPeer, Pair, Peer, Player, Recorder, Tester};

use crate::{ConfigError, OpenError};

/// The default number of frames that a loopback holds: a few milliseconds of traffic.
const LOOPBACK_FRAMES: usize = 4096;

/// The configuration of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerConfig {
    /// No peer: the link is down.
    None,
    /// A loopback to the device itself.
    Loopback {
        /// The number of frames that it holds.
        frames: usize,
    },
    /// A generator and sink of test traffic.
    Tester {
        /// Its MAC address.
        mac: [u8; 6],
    },
    /// Capture files.
    Pcap {
        /// The capture that is sent to the device.
        input: Option<PathBuf>,
        /// The capture that records frames from the device.
        output: Option<PathBuf>,
        /// True: frames are sent as fast as the wire allows. False: at the times of the capture.
        is_fast: bool,
        /// True: the capture starts again after its end.
        repeats: bool,
    },
    /// The wire of another device in the same process.
    Pair {
        /// The name that both sides give.
        name: String,
    },
    /// A UDP socket, one frame per datagram.
    Udp {
        /// The address that receives datagrams.
        local: SocketAddr,
        /// The address that they are sent to.
        remote: SocketAddr,
    },
    /// Frames in a byte stream.
    Stream {
        /// The address of the listener.
        address: StreamAddress,
        /// True: the peer listens. False: it connects.
        listens: bool,
    },
    /// A TAP interface of the host.
    Tap {
        /// The name of the interface.
        name: String,
    },
    /// A gateway with forwarded TCP ports of the host.
    UserNet {
        /// The forwarded ports.
        rules: Vec<ForwardRule>,
    },
}

impl PeerConfig {
    /// The forms that [`Self::parse`] reads, for messages and help.
    pub const FORMS: &str = "none, loopback[:frames=N], tester[:mac=MAC], \
                             pcap:in=FILE[+fast=yes][+loop=yes][+out=FILE], pair:NAME, udp:local=ADDRESS+remote=ADDRESS, \
                             stream:listen=ADDRESS, stream:connect=ADDRESS, \
                             tap:NAME, forward:tcp=PORT:GUEST:PORT[+tcp=...]";

    /// Parses `KIND` or `KIND:OPTIONS`; options are joined by `+`.
    ///
    /// # Errors
    /// [`ConfigError`] if the kind or an option is unknown, or a value is missing or not valid.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (kind, options) = text.split_once(':').unwrap_or((text, ""));
        if kind == "pair" || kind == "tap" {
            let name = Some(options.to_owned()).filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| ConfigError::Missing { kind: kind.into(), key: "a name" })?;
            return Ok(if kind == "pair" { Self::Pair { name } } else { Self::Tap { name } });
        }
        let mut options = Options::read(kind, options)?;
        let peer = match kind {
            "none" => Self::None,
            "loopback" => Self::Loopback { frames: options.number("frames", LOOPBACK_FRAMES)? },
            "tester" => Self::Tester { mac: options.take("mac").map_or(Ok(Tester::MAC), parse_mac)? },
            "pcap" => {
                let path = |text: Option<&str>| text.map(PathBuf::from);
                let (input, output) = (path(options.take("in")), path(options.take("out")));
                if input.is_none() && output.is_none() {
                    return Err(options.missing("in=FILE or out=FILE"));
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
                    _ => return Err(options.missing("either listen=ADDRESS or connect=ADDRESS")),
                };
                let address = match text.contains('/') {
                    true => StreamAddress::Unix(text.into()),
                    false => StreamAddress::Tcp(parse_socket(text)?),
                };
                Self::Stream { address, listens }
            }
            "forward" => {
                let texts = std::iter::from_fn(|| options.take("tcp"));
                Self::UserNet { rules: texts.map(parse_forward).collect::<Result<_, _>>()? }
            }
            _ => return Err(ConfigError::Kind(kind.into())),
        };
        options.finish(peer)
    }

    /// Opens the peer.
    ///
    /// # Errors
    /// [`OpenError`] if a file, socket, port or interface is missing or taken, or the host refuses to open
    /// it.
    pub fn open(&self) -> Result<Box<dyn Peer>, OpenError> {
        Ok(match self {
            Self::None => Box::new(NullPeer::default()),
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
                    (None, None) => Box::new(NullPeer::default()),
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
            Self::UserNet { rules } => {
                Box::new(UserNet::new(rules).map_err(OpenError::of("the gateway".into()))?)
            }
        })
    }
}

/// Options `KEY=VALUE` joined by `+`. Each is taken once.
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

    /// Removes the first option with this key, and returns its value.
    fn take(&mut self, key: &str) -> Option<&'a str> {
        let index = self.left.iter().position(|(name, _)| *name == key)?;
        Some(self.left.remove(index).1)
    }

    fn number(&mut self, key: &'static str, default: usize) -> Result<usize, ConfigError> {
        let Some(text) = self.take(key) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (1..=1 << 20).contains(number));
        number.ok_or_else(|| ConfigError::Number { key, text: text.into(), max: 1 << 20 })
    }

    fn yes_or_no(&mut self, key: &'static str) -> Result<bool, ConfigError> {
        let Some(text) = self.take(key) else { return Ok(false) };
        parse_yes_or_no(text).map_err(|error| ConfigError::Value { key, error })
    }

    fn socket(&mut self, key: &'static str) -> Result<SocketAddr, ConfigError> {
        let text = self.take(key).ok_or_else(|| self.missing(key))?;
        parse_socket(text)
    }

    fn missing(&self, key: &'static str) -> ConfigError {
        ConfigError::Missing { kind: self.kind.into(), key }
    }

    /// Returns `value` if all options have been taken.
    fn finish<T>(self, value: T) -> Result<T, ConfigError> {
        match self.left.first() {
            None => Ok(value),
            Some((key, _)) => Err(ConfigError::Option { kind: self.kind.into(), key: (*key).into() }),
        }
    }
}

/// Parses a rule such as `8080:10.0.2.15:80`.
fn parse_forward(text: &str) -> Result<ForwardRule, ConfigError> {
    let rule = text.split_once(':').and_then(|(port, guest)| {
        Some(ForwardRule { port: port.parse().ok()?, guest: guest.parse::<SocketAddrV4>().ok()? })
    });
    rule.ok_or_else(|| ConfigError::Forward(text.into()))
}

fn parse_socket(text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::Socket(text.into()))
}

/// Parses the MAC address of one station, such as `02:c0:00:00:00:01`.
///
/// # Errors
/// [`ConfigError::Mac`] if the text is not six bytes in hexadecimal, or is a group address or all zeros.
pub fn parse_mac(text: &str) -> Result<[u8; 6], ConfigError> {
    let invalid = || ConfigError::Mac(text.into());
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        // `from_str_radix` alone would accept a sign.
        let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        let part = parts.next().filter(is_byte).ok_or_else(invalid)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
    }
    let is_station = mac[0] & 1 == 0 && mac != [0; 6];
    if parts.next().is_none() && is_station { Ok(mac) } else { Err(invalid()) }
}
