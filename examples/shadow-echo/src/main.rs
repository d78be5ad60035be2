#![no_std]
#![no_main]

coppice_runtime::entry!(coppice_domain_shadow_echo::ShadowEchoDomain);
