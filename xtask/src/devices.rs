//! Devices of a machine to be launched: the requests of a system's `[[device]]` sections and of the command
//! line, in each machine's own syntax.
//!
//! The hosted machine uses Coppice's own models with all of their options. QEMU has its own devices, and
//! options that those do not support (copy times, fault injection) are left out there. A device that QEMU
//! does not have, or that is requested as a model, is hosted beside it (xtask/device).

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use coppice_manifest::{MachineDevice, parse_size};
use device_models::DeviceOption;
use tempfile::NamedTempFile;

use crate::error::Usage;

/// A device.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    model: Model,
    options: BTreeMap<String, String>,
    /// The file of a disk in memory, for machines that need a file; removed after the last launch.
    scratch: Option<Arc<NamedTempFile>>,
    /// The file in which QEMU records writes and flushes.
    record: Option<PathBuf>,
    /// True for Coppice's model although QEMU has such a device.
    is_model: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Model {
    /// QEMU's educational device.
    Edu,
    /// An NVMe controller.
    Nvme,
    /// A 10 Gigabit Ethernet controller, Intel's 82599, which QEMU does not have.
    Ixgbe,
    /// A Gigabit Ethernet controller, Intel's 82576, which only QEMU has, from 8.0 on.
    Igb,
}

impl Model {
    const ALL: [(&str, Self); 4] =
        [("edu", Self::Edu), ("nvme", Self::Nvme), ("ixgbe", Self::Ixgbe), ("igb", Self::Igb)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, model)| *model == self).map_or("", |(name, _)| name)
    }
}

/// The devices of a system: those of its manifest, whose disks are replaced in order by `disks`. Further
/// `disks` are added.
pub(crate) fn of_system(manifest: &[MachineDevice], disks: &[PathBuf]) -> Result<Vec<Device>> {
    let mut disks = disks.iter();
    let mut devices = Vec::new();
    for wanted in manifest {
        let device = Device::new(&wanted.model, wanted.options.clone())?;
        let replacement = if device.model == Model::Nvme { disks.next() } else { None };
        devices.push(match replacement {
            Some(file) => device.on_file(file)?,
            None => device,
        });
    }
    for file in disks {
        devices.push(Device::disk(file)?);
    }
    devices.iter().try_for_each(Device::check)?;
    Ok(devices)
}

impl Device {
    fn new(model: &str, options: BTreeMap<String, String>) -> Result<Self> {
        let Some(&(_, model)) = Model::ALL.iter().find(|(name, _)| *name == model) else {
            let known: Vec<_> = Model::ALL.iter().map(|(name, _)| *name).collect();
            let known = known.join(", ");
            return Err(Usage(format!("there is no device model \"{model}\"; the models are {known}")).into());
        };
        let mut device = Self { model, options, scratch: None, record: None, is_model: false };
        if let Some(size) = device.options.get("memory") {
            let bytes = size_of(size).with_context(|| format!("a disk with memory=\"{size}\""))?;
            let file = NamedTempFile::with_prefix("coppice-disk-").context("making a disk")?;
            // A sparse file: it takes only the space of written blocks.
            file.as_file().set_len(bytes).context("making a disk")?;
            device.scratch = Some(Arc::new(file));
        }
        if model == Model::Igb
            && let Some(end) = device.options.get("peer")
            && end != "loopback"
            && device.datagrams().is_none()
        {
            bail!("an igb device has peer=loopback or peer=udp:local=ADDRESS+remote=ADDRESS, not peer={end}");
        }
        if model == Model::Nvme && device.file().is_none() {
            bail!("an nvme device needs a disk: file=PATH or memory=SIZE");
        }
        Ok(device)
    }

    /// An NVMe disk with an image file.
    pub(crate) fn disk(file: &Path) -> Result<Self> {
        Self::new("nvme", [("file".to_owned(), file.display().to_string())].into())?.on_file(file)
    }

    /// The same device with another image file.
    fn on_file(mut self, file: &Path) -> Result<Self> {
        let text = file.to_str().filter(|text| !text.contains([',', '\n']));
        let Some(text) = text else {
            let path = file.display();
            return Err(Usage(format!("{path}: a disk needs a path in UTF-8 without commas")).into());
        };
        if !file.is_file() {
            return Err(Usage(format!("the disk image {text} does not exist")).into());
        }
        self.options.remove("memory");
        self.options.insert("file".into(), text.into());
        self.scratch = None;
        Ok(self)
    }

    /// The same device, with each write and flush recorded in `record`, an empty file; QEMU only.
    pub(crate) fn recorded(self, record: &Path) -> Result<Self> {
        let is_plain = |path: &Path| path.to_str().is_some_and(|text| !text.contains([',', '\n']));
        if !self.file().is_some_and(is_plain) || !is_plain(record) {
            bail!("{}: the image and its record need paths in UTF-8 without commas", record.display());
        }
        Ok(Self { record: Some(record.to_owned()), ..self })
    }

    /// Sets an option and replaces its old value.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if value.contains([',', '\n']) {
            return Err(
                Usage(format!("{name}={value}: an option of a device must not contain commas")).into()
            );
        }
        self.options.insert(name.into(), value.into());
        self.check()
    }

    /// Checks the options as the model will, without creating anything.
    fn check(&self) -> Result<()> {
        let Some(text) = self.model() else { return Ok(()) };
        let checked = text.parse::<DeviceOption>().and_then(|device| device.check());
        checked.map_err(|error| Usage(error.to_string()).into())
    }

    /// The same device as Coppice's model on each machine.
    pub(crate) fn into_model(self) -> Self {
        Self { is_model: true, ..self }
    }

    /// The disk's image file, if it has one.
    pub(crate) fn file(&self) -> Option<&Path> {
        let scratch = self.scratch.as_ref().map(|scratch| scratch.path());
        scratch.or_else(|| self.options.get("file").map(Path::new))
    }

    /// Its name in a manifest.
    pub(crate) fn name(&self) -> &'static str {
        self.model.name()
    }

    /// The `--device` argument for a host of models; `None` if there is no model of it.
    pub(crate) fn model(&self) -> Option<String> {
        if self.model == Model::Igb {
            return None;
        }
        let options = self.options.iter().map(|(key, value)| format!(",{key}={value}"));
        Some(options.fold(self.name().to_owned(), |text, option| text + &option))
    }

    /// The `--device` argument if a model serves it beside QEMU too.
    pub(crate) fn beside_qemu(&self) -> Option<String> {
        if self.is_model || self.model == Model::Ixgbe { self.model() } else { None }
    }

    /// The first major version of QEMU that has it.
    pub(crate) fn least_qemu(&self) -> u32 {
        if self.model == Model::Igb { 8 } else { 0 }
    }

    /// QEMU's arguments for it, the `index`th device; empty if QEMU does not provide it.
    pub(crate) fn qemu(&self, index: usize) -> Vec<String> {
        if self.beside_qemu().is_some() {
            return Vec::new();
        }
        if self.model == Model::Igb {
            return self.igb(index);
        }
        let Some(file) = self.file().filter(|_| self.model == Model::Nvme) else {
            return vec!["-device".into(), "edu".into()];
        };
        let option = |name: &str| self.options.get(name);
        let serial = option("serial").cloned().unwrap_or_else(|| format!("COPPICE-{}", index + 1));
        let mut device = format!("nvme,serial={serial},drive=disk{index}");
        if let Some(lba) = option("lba") {
            device += &format!(",logical_block_size={lba},physical_block_size={lba}");
        }
        for (our_name, qemu_name) in [("queues", "max_ioqpairs"), ("mdts", "mdts")] {
            if let Some(value) = option(our_name) {
                device += &format!(",{qemu_name}={value}");
            }
        }
        if let Some(record) = &self.record {
            // A sector of the record is 512 bytes, the smallest block.
            let record = format!("driver=file,node-name=record{index},filename={}", record.display());
            let image = format!("driver=file,node-name=image{index},filename={}", file.display());
            let both = format!(
                "driver=blklogwrites,node-name=disk{index},file=image{index},log=record{index},log-sector-size=512"
            );
            let nodes = [record, image, both].into_iter().flat_map(|node| ["-blockdev".to_owned(), node]);
            return nodes.chain(["-device".to_owned(), device]).collect();
        }
        let drive = format!("file={},if=none,format=raw,id=disk{index}", file.display());
        vec!["-drive".into(), drive, "-device".into(), device]
    }

    /// The local and the remote address of a network device with an end for datagrams.
    fn datagrams(&self) -> Option<(String, String)> {
        let end = self.options.get("peer")?.strip_prefix("udp:")?;
        let value = |key: &str| end.split('+').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        Some((value("local")?.to_owned(), value("remote")?.to_owned()))
    }

    /// QEMU's arguments for a wire of datagrams, one frame in each. Its end is the models'
    /// `udp:local=ADDRESS+remote=ADDRESS`, or a loopback, for which both addresses are the same.
    fn igb(&self, index: usize) -> Vec<String> {
        let option = |name: &str| self.options.get(name).cloned();
        let (local, remote) = self.datagrams().unwrap_or_else(|| {
            let here = free_address();
            (here.clone(), here)
        });
        let net = format!("socket,id=net{index},udp={remote},localaddr={local}");
        let mac = option("mac").map_or_else(String::new, |mac| format!(",mac={mac}"));
        ["-netdev", &net, "-device", &format!("igb,netdev=net{index}{mac}")].map(str::to_owned).into()
    }
}

/// An unused address for datagrams.
fn free_address() -> String {
    let address = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    // On a host without one, QEMU reports the error.
    address.map_or_else(|_| "127.0.0.1:0".to_owned(), |address| address.to_string())
}

/// A size in bytes, in the models' spelling (`64M`) or the manifest's (`64 MiB`).
fn size_of(text: &str) -> Result<u64> {
    let plain = text.trim_end_matches("iB");
    let long = match plain.chars().last() {
        Some('K' | 'M' | 'G') => format!("{plain}iB"),
        _ => plain.to_owned(),
    };
    parse_size(&long).map_err(|error| anyhow::anyhow!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(model: &str, options: &[(&str, &str)]) -> MachineDevice {
        let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        MachineDevice { model: model.into(), options }
    }

    #[test]
    fn each_machine_gets_its_own_arguments() {
        let manifest = [
            wanted("edu", &[("delay", "2ms")]),
            wanted("nvme", &[("memory", "64M"), ("lba", "4096"), ("queues", "4"), ("latency", "10us")]),
        ];
        let devices = of_system(&manifest, &[]).expect("both are there");
        assert_eq!(devices[0].model().as_deref(), Some("edu,delay=2ms"));
        assert_eq!(devices[0].qemu(0), ["-device", "edu"]);
        assert_eq!(devices[1].model().as_deref(), Some("nvme,latency=10us,lba=4096,memory=64M,queues=4"));
        let file = devices[1].file().expect("QEMU needs a file").to_owned();
        assert_eq!(std::fs::metadata(&file).expect("it is there").len(), 64 << 20);
        let drive = format!("file={},if=none,format=raw,id=disk1", file.display());
        let device = "nvme,serial=COPPICE-2,drive=disk1,logical_block_size=4096,physical_block_size=4096,max_ioqpairs=4";
        assert_eq!(devices[1].qemu(1), ["-drive", &drive, "-device", device]);
        drop(devices);
        assert!(!file.exists(), "a disk in memory is removed with its machine");
    }

    #[test]
    fn models_beside_qemu_serve_devices_it_lacks_or_must_not_provide() {
        let manifest = [wanted("edu", &[]), wanted("ixgbe", &[("rate", "unlimited")]), wanted("igb", &[])];
        let [edu, ixgbe, igb] = of_system(&manifest, &[]).expect("all are there").try_into().expect("three");
        assert_eq!((edu.beside_qemu(), igb.beside_qemu(), igb.model()), (None, None, None));
        assert_eq!(ixgbe.beside_qemu().as_deref(), Some("ixgbe,rate=unlimited"));
        assert!(ixgbe.qemu(1).is_empty());
        let edu = edu.into_model();
        assert_eq!((edu.beside_qemu().as_deref(), edu.qemu(0).len()), (Some("edu"), 0));
        assert_eq!((ixgbe.least_qemu(), igb.least_qemu()), (0, 8));
        let arguments = igb.qemu(2).join(" ");
        assert!(arguments.starts_with("-netdev socket,id=net2,udp=127.0.0.1:"), "{arguments}");
        assert!(arguments.ends_with("-device igb,netdev=net2"), "{arguments}");
        let end = ("peer", "udp:local=127.0.0.1:7000+remote=127.0.0.1:7001");
        let both = [end, ("mac", "02:00:00:00:00:01")];
        let [igb] = of_system(&[wanted("igb", &both)], &[]).expect("it is there").try_into().expect("one");
        let net = "socket,id=net0,udp=127.0.0.1:7001,localaddr=127.0.0.1:7000";
        assert_eq!(igb.qemu(0), ["-netdev", net, "-device", "igb,netdev=net0,mac=02:00:00:00:00:01"]);
    }

    #[test]
    fn disks_of_the_command_line_replace_those_of_the_manifest() {
        let folder = tempfile::tempdir().expect("there is room");
        let images: Vec<PathBuf> = ["a.img", "b.img"].map(|name| folder.path().join(name)).into();
        images.iter().for_each(|path| std::fs::write(path, [0; 512]).expect("there is room"));
        let manifest = [wanted("nvme", &[("memory", "1M"), ("lba", "512")]), wanted("edu", &[])];
        let devices = of_system(&manifest, &images).expect("all are there");
        let files: Vec<_> = devices.iter().map(Device::file).collect();
        assert_eq!(files, [Some(images[0].as_path()), None, Some(images[1].as_path())]);
        assert_eq!(devices[0].model(), Some(format!("nvme,file={},lba=512", images[0].display())));
    }

    #[test]
    fn invalid_devices_are_refused() {
        let refusal = |device| of_system(&[device], &[]).expect_err("it is none").to_string();
        assert!(refusal(wanted("floppy", &[])).contains("no device model \"floppy\""));
        assert!(refusal(wanted("nvme", &[])).contains("needs a disk"));
        assert!(refusal(wanted("igb", &[("peer", "tester")])).contains("not peer=tester"));
        assert!(refusal(wanted("nvme", &[("memory", "much")])).contains("memory=\"much\""));
        assert!(
            refusal(wanted("ixgbe", &[("faults", "explode:1/2")])).contains("`explode` is no kind of fault")
        );
        assert!(refusal(wanted("edu", &[("speed", "2")])).contains("no option of edu"));
        let [mut nic] = of_system(&[wanted("ixgbe", &[])], &[]).expect("it is one").try_into().expect("one");
        let error = nic.set("faults", "hang:often").expect_err("it is no rate");
        assert!(error.is::<Usage>() && error.to_string().contains("`often` is no rate"), "{error}");
        let error = of_system(&[], &["/nowhere/at/all".into()]).expect_err("it is not there");
        assert!(error.is::<Usage>() && error.to_string().contains("does not exist"), "{error}");
    }
}
