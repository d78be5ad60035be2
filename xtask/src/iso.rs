//! `iso`: an image for a CD or a USB stick that boots by BIOS and by UEFI, through GRUB and multiboot2.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::kernel::Flavor;
use crate::machine::Kind;
use crate::machine_args::check_output;
use crate::ui::Step;
use crate::workspace::{Workspace, find_program};
use crate::{install, kernel, pack, run};

const MAKER: &str = "grub-mkrescue";

/// Makes the image.
pub(crate) fn make(
    workspace: &Workspace,
    system: Option<String>,
    output: Option<PathBuf>,
    options: &[String],
    flavor: Flavor,
    may_install: bool,
) -> Result<()> {
    let system = run::system_or_default(workspace, system)?;
    let manifest = pack::read_manifest(workspace, &system)?;
    output.as_deref().map_or(Ok(()), check_output)?;
    require_tools(may_install)?;
    let archive = pack::pack(workspace, &manifest)?;
    let kernel = kernel::build(workspace, Kind::Bare, flavor)?;

    let step = Step::start("making the ISO image");
    let tree = workspace.target.join("iso").join(&system);
    let grub = tree.join("boot/grub");
    fs::create_dir_all(&grub).with_context(|| format!("creating {}", grub.display()))?;
    for (from, to) in [(&kernel, "boot/coppice"), (&archive, "boot/archive")] {
        fs::copy(from, tree.join(to)).with_context(|| format!("copying {}", from.display()))?;
    }
    let config = grub.join("grub.cfg");
    fs::write(&config, grub_config(options)).with_context(|| format!("writing {}", config.display()))?;

    let output = output.unwrap_or_else(|| workspace.target.join(format!("{system}.iso")));
    step.run(Command::new(MAKER).arg("-o").arg(&output).arg(&tree))?;
    step.done(&output.display().to_string());
    Ok(())
}

fn require_tools(may_install: bool) -> Result<()> {
    // GRUB's own error for a missing mformat or xorriso is hard to read, so each program is looked up first.
    let missing = || [MAKER, "xorriso", "mformat"].into_iter().find(|tool| find_program(tool).is_none());
    match missing() {
        None => Ok(()),
        Some(_) if may_install => {
            install::install(&install::ISO_TOOLS)?;
            match missing() {
                None => Ok(()),
                Some(tool) => anyhow::bail!("the packages were installed, but do not contain {tool}"),
            }
        }
        Some(tool) => anyhow::bail!("there is no {tool}: {}", install::ISO_TOOLS.advice()),
    }
}

/// GRUB shows nothing and waits for nothing; the kernel's console is the first serial port.
fn grub_config(options: &[String]) -> String {
    let command_line = options.iter().map(|option| format!(" {option}")).collect::<String>();
    format!(
        "set timeout=0\n\
         set default=0\n\
         serial --unit=0 --speed=115200\n\
         terminal_input serial console\n\
         terminal_output serial console\n\
         menuentry \"Coppice\" {{\n    \
             multiboot2 /boot/coppice{command_line}\n    \
             module2 /boot/archive\n    \
             boot\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_follow_the_kernel_in_the_grub_configuration() {
        let text = grub_config(&["log=debug".to_owned()]);
        assert!(text.contains("multiboot2 /boot/coppice log=debug\n    module2 /boot/archive\n"), "{text}");
    }
}
