//! Fuzz target: takes any bytes as a domain image. Parsing never panics, and an accepted image can be loaded.

#![no_main]

use coppice_kernel::image::Image;
use coppice_kernel::machine::PAGE_SIZE;
use libfuzzer_sys::fuzz_target;

/// Larger images are parsed but not loaded, which would only slow the search down.
const LOAD_LIMIT_PAGES: usize = 64;

fuzz_target!(|file: &[u8]| {
    let Ok(image) = Image::parse(file) else { return };
    if image.span_pages() > LOAD_LIMIT_PAGES {
        return;
    }
    let mut memory = vec![0; image.span_pages() * PAGE_SIZE];
    image.load_into(&mut memory, 0x10_0000).expect("memory has the image's span");
});
