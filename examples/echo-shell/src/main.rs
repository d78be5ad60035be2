#![no_std]
#![no_main]

coppice_runtime::entry!(coppice_domain_echo_shell::EchoShellDomain);
