//! The disk of the demonstration: a given image or one that is made here, and the machine's copy of it.
//!
//! The machine never gets the image itself. It gets a copy with a scratch area behind it, where the load may
//! write; the part before that must remain unchanged, which [`Disk::hash`] shows.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::error::Usage;
use crate::install::{self, E2FSPROGS};
use crate::ui::Step;
use crate::workspace::{Workspace, find_program};

/// The size of an image that is made here, and the part of it that files may take: a file system needs some
/// room itself.
const MADE_BYTES: u64 = 64 << 20;
const FILES_BYTES: u64 = 52 << 20;
/// Larger files are left out, so that the image has many.
const FILE_LIMIT: u64 = 4 << 20;
/// The part of a disk in memory that is read as its image (systems/verification/demo-memory.toml sets its
/// size).
const ZEROES_BYTES: u64 = 16 << 20;
/// The size of the area where the load may write.
const SCRATCH_BYTES: u64 = 32 << 20;
/// The scratch area begins at a multiple of this, for every size of image and every block size.
const ALIGNMENT: u64 = 1 << 20;

/// A disk image, which is only read.
pub(crate) struct Image {
    pub(crate) path: PathBuf,
    /// A description of its content.
    what: String,
    pub(crate) bytes: u64,
    /// SHA-256 of all of it.
    pub(crate) hash: String,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} MiB, {}", self.path.display(), self.bytes >> 20, self.what)
    }
}

impl Image {
    /// An image that the user gave.
    pub(crate) fn given(path: &Path) -> Result<Self> {
        let shown = path.display();
        let problem = match fs::metadata(path) {
            Err(error) => Some(format!("cannot be read: {error}")),
            Ok(metadata) if !metadata.is_file() => Some("is not a regular file".to_owned()),
            Ok(metadata) if metadata.len() == 0 => Some("is empty".to_owned()),
            Ok(_) => File::open(path).err().map(|error| format!("cannot be read: {error}")),
        };
        if let Some(problem) = problem {
            return Err(Usage(format!("the disk image {shown} {problem}")).into());
        }
        Self::read(path, "given by the user".to_owned())
    }

    /// An image with real files: an ext4 file system, or an archive where mke2fs is not available. It is made
    /// once and kept.
    pub(crate) fn made(workspace: &Workspace, may_install: bool) -> Result<Self> {
        let folder = workspace.target.join("demo");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let [ext4, tar] = ["image.ext4", "image.tar"].map(|name| folder.join(name));
        if ext4.exists() {
            return Self::read(&ext4, "an ext4 file system".to_owned());
        }
        let mke2fs = match find_mke2fs() {
            Some(program) => Ok(program),
            None if may_install => install::install(&E2FSPROGS).and_then(|()| {
                find_mke2fs().context("its package was installed, but does not contain mke2fs")
            }),
            None => Err(anyhow::anyhow!(E2FSPROGS.advice())),
        };
        let step = Step::start("making a disk image");
        let files = Files::gather(workspace)?;
        let made = match mke2fs {
            Ok(program) => {
                files.ext4(&program, &folder, &ext4, &step)?;
                Self::read(&ext4, format!("an ext4 file system with {} files", files.list.len()))
            }
            Err(error) => {
                step.line(&format!(
                    "the disk is an archive instead of a file system, because there is no mke2fs: {error:#}"
                ));
                files.tar(&tar)?;
                Self::read(&tar, format!("an archive of {} files", files.list.len()))
            }
        }?;
        step.done(&made.to_string());
        Ok(made)
    }

    /// The content of a new disk in memory: only zeroes.
    pub(crate) fn zeroes(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.target.join("demo");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let path = folder.join("zeroes");
        File::create(&path)
            .and_then(|file| file.set_len(ZEROES_BYTES))
            .with_context(|| format!("creating {}", path.display()))?;
        Self::read(&path, "all zeroes".to_owned())
    }

    fn read(path: &Path, what: String) -> Result<Self> {
        let bytes = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.len();
        Ok(Self { hash: hash(path, bytes)?, path: path.to_owned(), what, bytes })
    }

    /// Returns true if the image is unchanged since it was read.
    pub(crate) fn is_unchanged(&self) -> Result<bool> {
        let bytes =
            fs::metadata(&self.path).with_context(|| format!("reading {}", self.path.display()))?.len();
        Ok(bytes == self.bytes && hash(&self.path, bytes)? == self.hash)
    }
}

/// The machine's copy of the image.
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    /// The size of the image's part.
    pub(crate) image_bytes: u64,
    /// The start of the scratch area, which extends to the end.
    pub(crate) scratch_from: u64,
}

impl Disk {
    /// Copies an image, by shared extents where the file system supports them, and appends a scratch area.
    pub(crate) fn of(workspace: &Workspace, image: &Image) -> Result<Self> {
        let folder = workspace.target.join("demo");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Self::copy(image, &folder.join("disk.img"))
    }

    fn copy(image: &Image, path: &Path) -> Result<Self> {
        let from = image.path.display();
        // A separate file for each run: one that another run still uses would contain that run's writes.
        if path.exists() {
            fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        }
        fs::copy(&image.path, path).with_context(|| format!("copying {from} to {}", path.display()))?;
        let mut permissions =
            fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        fs::set_permissions(path, permissions)
            .with_context(|| format!("making {} writable", path.display()))?;
        let scratch_from = image.bytes.next_multiple_of(ALIGNMENT);
        File::options()
            .write(true)
            .open(path)
            .and_then(|file| file.set_len(scratch_from + SCRATCH_BYTES))
            .with_context(|| format!("making {} larger", path.display()))?;
        Ok(Self { path: path.to_owned(), image_bytes: image.bytes, scratch_from })
    }

    /// SHA-256 of the image's part.
    pub(crate) fn hash(&self) -> Result<String> {
        hash(&self.path, self.image_bytes)
    }
}

/// SHA-256 of a file's first bytes.
fn hash(path: &Path, bytes: u64) -> Result<String> {
    let context = || format!("reading {}", path.display());
    let mut file = File::open(path).with_context(context)?.take(bytes);
    let (mut hasher, mut buffer, mut read) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer).with_context(context)? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                read += count as u64;
            }
        }
    }
    ensure!(read == bytes, "{} has {read} bytes instead of {bytes}", path.display());
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Finds mke2fs, which often is in a folder that only root's search path has.
fn find_mke2fs() -> Option<PathBuf> {
    let elsewhere = ["/usr/sbin/mke2fs", "/sbin/mke2fs"].map(PathBuf::from);
    find_program("mke2fs").or_else(|| elsewhere.into_iter().find(|path| path.is_file()))
}

/// Files to fill an image with: those of this tree, and those of the compiler, which every build host has.
struct Files {
    /// The path of each file, and its path in the image.
    list: Vec<(PathBuf, PathBuf)>,
}

impl Files {
    fn gather(workspace: &Workspace) -> Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc).args(["--print", "sysroot"]).output().context("running rustc")?;
        let compiler = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let (mut list, mut room) = (Vec::new(), FILES_BYTES);
        for (root, name) in [(&workspace.root, "coppice"), (&compiler, "rust")] {
            take(root, root, Path::new(name), &workspace.target, &mut list, &mut room)
                .with_context(|| format!("gathering files in {}", root.display()))?;
        }
        ensure!(!list.is_empty(), "there are no files to fill an image with");
        Ok(Self { list })
    }

    /// Writes an ext4 file system that holds the files. This needs no root privileges.
    fn ext4(&self, mke2fs: &Path, folder: &Path, path: &Path, step: &Step) -> Result<()> {
        let (stage, draft) = (folder.join("files"), folder.join("draft"));
        if stage.exists() {
            fs::remove_dir_all(&stage).with_context(|| format!("removing {}", stage.display()))?;
        }
        for (from, name) in &self.list {
            let to = stage.join(name);
            let parent = to.parent().expect("each file lies in a folder of its own");
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
            fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
        let mut command = Command::new(mke2fs);
        command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-L", "coppice", "-d"]);
        command.arg(&stage).arg(&draft).arg(format!("{}k", MADE_BYTES >> 10));
        let made = step.run(&mut command).map(|_| ());
        // The image is renamed when complete, so an interrupted run leaves no partial image for later runs.
        let made = made.and_then(|()| fs::rename(&draft, path).context("putting the image in its place"));
        fs::remove_dir_all(&stage).with_context(|| format!("removing {}", stage.display()))?;
        made
    }

    fn tar(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let mut builder = tar::Builder::new(file);
        for (from, name) in &self.list {
            builder
                .append_path_with_name(from, name)
                .with_context(|| format!("packing {}", from.display()))?;
        }
        builder.into_inner().context("finishing the archive").map(drop)
    }
}

/// Adds files below `folder`, in the order of their names, while there is room.
fn take(
    root: &Path,
    folder: &Path,
    name: &Path,
    target: &Path,
    list: &mut Vec<(PathBuf, PathBuf)>,
    room: &mut u64,
) -> std::io::Result<()> {
    let mut entries = folder.read_dir()?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // Build output, which includes this image, and git's own files are left out.
        if path == target || entry.file_name() == ".git" || entry.file_name() == "target" {
            continue;
        }
        // A link may lead anywhere, and form a cycle.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            take(root, &path, name, target, list, room)?;
        } else if kind.is_file() {
            // A file system allocates whole blocks.
            let bytes = entry.metadata()?.len().next_multiple_of(4096);
            if bytes <= FILE_LIMIT && bytes <= *room {
                *room -= bytes;
                let inside = path.strip_prefix(root).expect("paths below a folder begin with it");
                list.push((path.clone(), name.join(inside)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(folder: &Path, content: &[u8]) -> Image {
        let path = folder.join("image");
        fs::write(&path, content).expect("there is room for an image");
        Image::given(&path).expect("it is an image")
    }

    #[test]
    fn the_hash_is_sha_256() {
        let folder = tempfile::tempdir().expect("there is room for an image");
        let image = image(folder.path(), b"abc");
        // FIPS 180-4, the example of one block.
        assert_eq!(image.hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_disk_is_a_copy_with_a_scratch_area() {
        let folder = tempfile::tempdir().expect("there is room for an image");
        let image = image(folder.path(), &[7; 5000]);
        let disk = Disk::copy(&image, &folder.path().join("disk")).expect("there is room for a copy");
        assert_eq!((disk.image_bytes, disk.scratch_from), (5000, ALIGNMENT));
        assert_eq!(disk.hash().expect("it can be read"), image.hash);
        let mut content = fs::read(&disk.path).expect("it can be read");
        assert_eq!(content.len() as u64, ALIGNMENT + SCRATCH_BYTES);
        assert!(content[5000..].iter().all(|&byte| byte == 0));

        // A write behind the image changes no hash; a write in it does; neither reaches the image.
        content[ALIGNMENT as usize] = 1;
        fs::write(&disk.path, &content).expect("it can be written");
        assert_eq!(disk.hash().expect("it can be read"), image.hash);
        content[4999] = 1;
        fs::write(&disk.path, &content).expect("it can be written");
        assert_ne!(disk.hash().expect("it can be read"), image.hash);
        assert!(image.is_unchanged().expect("it can be read"));
    }

    #[test]
    fn an_image_that_changes_or_shrinks_is_noticed() {
        let folder = tempfile::tempdir().expect("there is room for an image");
        let image = image(folder.path(), &[7; 5000]);
        for other in [&[8; 5000][..], &[7; 4999]] {
            fs::write(&image.path, other).expect("it can be written");
            assert!(!image.is_unchanged().expect("it can be read"));
        }
    }

    #[test]
    fn a_file_that_is_no_image_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("there is room for a file");
        let empty = folder.path().join("empty");
        fs::write(&empty, b"").expect("there is room for a file");
        for path in [folder.path().join("missing"), folder.path().to_owned(), empty] {
            let error = Image::given(&path).err().expect("it is no image");
            assert!(error.is::<Usage>(), "{error}");
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }

    /// Test files instead of this tree's.
    fn some_files(folder: &Path) -> Files {
        let list = (0..20).map(|n| {
            let path = folder.join(format!("file{n}"));
            fs::write(&path, vec![n; 3000]).expect("there is room for a file");
            (path, PathBuf::from(format!("a/b{n}/file")))
        });
        Files { list: list.collect() }
    }

    #[test]
    fn a_made_image_is_ext4() {
        let Some(mke2fs) = find_mke2fs() else { return };
        let folder = tempfile::tempdir().expect("there is room for an image");
        let path = folder.path().join("image.ext4");
        let step = Step::start("making a disk image");
        some_files(folder.path()).ext4(&mke2fs, folder.path(), &path, &step).expect("mke2fs makes it");
        step.done("");
        let content = fs::read(&path).expect("it was made");
        assert_eq!(content.len() as u64, MADE_BYTES);
        // The superblock's magic number (Documentation/filesystems/ext4 of Linux: offset 0x38 of the block at
        // 1024).
        assert_eq!(content[1024 + 0x38..][..2], [0x53, 0xef]);
        assert!(content.windows(3000).any(|window| window == [9; 3000]), "a file's content is in it");
        assert!(!folder.path().join("files").exists(), "temporary files are removed");
    }

    #[test]
    fn without_mke2fs_the_image_is_an_archive() {
        let folder = tempfile::tempdir().expect("there is room for an image");
        let path = folder.path().join("image.tar");
        some_files(folder.path()).tar(&path).expect("there is room for an archive");
        let mut archive = tar::Archive::new(File::open(&path).expect("it was made"));
        assert_eq!(archive.entries().expect("it is an archive").count(), 20);
    }
}
