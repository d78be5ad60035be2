#![no_std]
#![no_main]

coppice_runtime::entry!(coppice_bench_net::NetBench);
